package reports

import (
	"fmt"
	"strings"
	"unicode"
)

// finding is one claim of one scenario with its place in the page.
type finding struct {
	Scenario *Scenario
	Claim    *Claim
	Anchor   string // unique in the run
}

// matrix is scenarios × claims: rows by claim ID, grouped by the part before the slash.
type matrix struct {
	Scenarios []*Scenario
	Families  []family
}

type family struct {
	Name string
	Rows []matrixRow
}

type matrixRow struct {
	ID    string
	Text  string
	Cells [][]finding // a cell per scenario; several findings if judged on several services
}

// findings lists every claim of r in order, with its anchor.
func findings(r *Result) []finding {
	var all []finding
	used := map[string]bool{}
	for i := range r.Scenarios {
		s := &r.Scenarios[i]
		for j := range s.Claims {
			c := &s.Claims[j]
			base := "claim-" + slug(s.ID) + "." + slug(c.ID)
			if c.Service != "" {
				base += "." + slug(c.Service)
			}
			anchor := base
			for n := 2; used[anchor]; n++ {
				anchor = fmt.Sprintf("%s-%d", base, n)
			}
			used[anchor] = true
			all = append(all, finding{s, c, anchor})
		}
	}
	return all
}

func newMatrix(r *Result, all []finding) matrix {
	var m matrix
	column := map[*Scenario]int{}
	for i := range r.Scenarios {
		column[&r.Scenarios[i]] = i
		m.Scenarios = append(m.Scenarios, &r.Scenarios[i])
	}
	type place struct{ family, row int }
	families, rows := map[string]int{}, map[string]place{}
	for _, f := range all {
		name, _, _ := strings.Cut(f.Claim.ID, "/")
		at, ok := rows[f.Claim.ID]
		if !ok {
			n, ok := families[name]
			if !ok {
				n = len(m.Families)
				families[name] = n
				m.Families = append(m.Families, family{Name: name})
			}
			fam := &m.Families[n]
			at = place{n, len(fam.Rows)}
			rows[f.Claim.ID] = at
			fam.Rows = append(fam.Rows, matrixRow{ID: f.Claim.ID, Text: f.Claim.Text, Cells: make([][]finding, len(r.Scenarios))})
		}
		cells := m.Families[at.family].Rows[at.row].Cells
		col := column[f.Scenario]
		cells[col] = append(cells[col], f)
	}
	return m
}

// slug keeps letters and digits of s and makes the rest dashes.
func slug(s string) string {
	return strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c > 0x7f && unicode.IsLetter(c) {
			return c
		}
		return '-'
	}, strings.ToValidUTF8(s, "-"))
}
