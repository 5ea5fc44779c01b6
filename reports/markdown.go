package reports

import (
	"bytes"
	"fmt"
	"strings"
)

var emoji = map[Verdict]string{Pass: "✅", Fail: "❌", Skip: "⏭️", Invalid: "⚠️", Error: "💥", NotRun: "⚪"}

func mdVerdict(v Verdict) string {
	e, ok := emoji[v]
	if !ok {
		e = emoji[Error]
	}
	return e + " " + mdText(string(v))
}

// Markdown renders r as GitHub-flavoured Markdown, for a job summary or a
// comment. Whatever comes from the site is escaped, so that it can neither
// break a table nor add markup.
func Markdown(r *Result) []byte {
	var b bytes.Buffer
	p := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	t, all := r.totals(), findings(r)

	mark, headline := r.headline()
	p("# %s %s\n\n", strings.Fields(mdVerdict(mark))[0], mdText(headline))
	if r.Run.Error != "" {
		p("> [!CAUTION]\n> **Lab error.** %s\n\n", mdText(r.Run.Error))
	}
	if r.Run.Interrupted {
		p("> [!WARNING]\n> **Interrupted.** A signal or the time limit ended the run early.\n\n")
	} else if r.Run.Finished == nil {
		p("> [!WARNING]\n> **Unfinished.** %s\n\n", unfinished)
	}
	var counts []string
	for _, v := range Verdicts {
		counts = append(counts, fmt.Sprintf("%s %d", mdVerdict(v), t.Of(v)))
	}
	p("%s — %s in %s\n\n", strings.Join(counts, " · "), plural(t.Sum(), "claim", "claims"), plural(len(r.Scenarios), "scenario", "scenarios"))

	if len(r.Scenarios) > 0 {
		p("## Claims\n\n| |")
		for _, s := range r.Scenarios {
			p(" %s |", mdCode(s.ID))
		}
		p("\n|---|%s\n| **scenario** |", strings.Repeat("---|", len(r.Scenarios)))
		for i := range r.Scenarios {
			p(" **%s** |", mdVerdict(r.Scenarios[i].verdict()))
		}
		p("\n")
		for _, f := range newMatrix(r, all).Families {
			for _, row := range f.Rows {
				p("| %s |", mdCode(row.ID))
				for _, cell := range row.Cells {
					p(" %s |", mdCell(cell))
				}
				p("\n")
			}
		}
		p("\n")
	}
	mdFindings(&b, r, all)
	mdSkipped(&b, all)
	for _, s := range r.Scenarios {
		p("## %s", mdText(s.ID))
		if s.Title != "" {
			p(" — %s", mdText(s.Title))
		}
		p("\n\n%s in %s, recipe %s%s\n\n", mdVerdict(s.verdict()), seconds(s.DurationS), mdCode(s.Recipe), mdTimings(s.Timings))
		if len(s.Services) > 0 {
			p("| service | image | ran as | balance | volume | publish | tasks |\n|---|---|---|---|---|---|---:|\n")
			for _, v := range s.Services {
				p("| %s | %s | %s | %s | %s | %s | %d |\n", mdCode(v.Name), mdCode(v.Image), mdCode(v.RunAs), mdText(v.Balance), mdText(v.Volume), mdText(v.Publish), v.Tasks)
			}
			p("\n")
		}
		mdList(&b, s.Notes)
	}
	mdLab(&b, r)
	return b.Bytes()
}

// mdFindings writes every claim that is neither pass nor skip, with what contradicts it.
func mdFindings(b *bytes.Buffer, r *Result, all []finding) {
	wrote := false
	title := func() {
		if !wrote {
			fmt.Fprint(b, "## What did not hold or could not be shown\n\n")
			wrote = true
		}
	}
	for _, s := range r.Scenarios {
		if s.Reason != "" {
			title()
			fmt.Fprintf(b, "### %s %s\n\n%s\n\n", mdVerdict(s.verdict()), mdCode(s.ID), mdText(s.Reason))
		}
	}
	for _, f := range all {
		c := f.Claim
		if c.Verdict == Pass || c.Verdict == Skip {
			continue
		}
		title()
		fmt.Fprintf(b, "### %s %s in %s", mdVerdict(c.Verdict), mdCode(c.ID), mdCode(f.Scenario.ID))
		if c.Service != "" {
			fmt.Fprintf(b, ", service %s", mdCode(c.Service))
		}
		fmt.Fprint(b, "\n\n")
		if c.Text != "" {
			fmt.Fprintf(b, "Claim: %s", mdText(c.Text))
			if c.Guide != "" {
				fmt.Fprintf(b, " (%s)", mdText(c.Guide))
			}
			fmt.Fprint(b, "\n\n")
		}
		if c.Reason != "" {
			fmt.Fprintf(b, "%s\n\n", mdText(c.Reason))
		}
		if len(c.Samples) > 0 {
			fmt.Fprint(b, "| | client | asked | outcome | source seen | answered by |\n|---|---|---|---|---|---|\n")
			for _, s := range c.Samples {
				mark := ""
				if s.Counter {
					mark = "✗"
				}
				fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s |\n", mark, mdText(s.Client), mdCode(s.Target), mdText(s.Outcome), mdCode(s.Seen), mdText(s.Server))
			}
			fmt.Fprint(b, "\n")
		}
		for _, e := range c.Evidence {
			fmt.Fprintf(b, "- %s: %s\n", mdText(e.Title), mdCode(e.Path))
		}
		if len(c.Evidence) > 0 {
			fmt.Fprint(b, "\n")
		}
	}
}

// mdSkipped lists what was skipped with the reason: a skip is allowed, never silent.
func mdSkipped(b *bytes.Buffer, all []finding) {
	var items []string
	for _, f := range all {
		if f.Claim.Verdict == Skip {
			items = append(items, fmt.Sprintf("- %s in %s: %s\n", mdCode(f.Claim.ID), mdCode(f.Scenario.ID), mdText(f.Claim.Reason)))
		}
	}
	if len(items) > 0 {
		fmt.Fprintf(b, "## Skipped\n\n%s\n", strings.Join(items, ""))
	}
}

func mdLab(b *bytes.Buffer, r *Result) {
	p := func(format string, args ...any) { fmt.Fprintf(b, format, args...) }
	p("## Lab\n\nProvider %s", mdText(r.Lab.Provider))
	if r.Lab.Accel != "" {
		p(", acceleration %s", mdText(r.Lab.Accel))
	}
	p("%s\n\n", mdTimings(r.Lab.Timings))
	if len(r.Lab.Hosts) > 0 {
		p("| host | address | role | CPUs | memory |\n|---|---|---|---:|---:|\n")
		for _, h := range r.Lab.Hosts {
			p("| %s | %s | %s | %s | %s |\n", mdText(h.Name), mdCode(h.Address), mdText(h.Role), count(h.CPUs, ""), count(h.MemoryMiB, " MiB"))
		}
		p("\n")
	}
	if len(r.Lab.Versions) > 0 {
		var vs []string
		for _, k := range sortedKeys(r.Lab.Versions) {
			vs = append(vs, mdText(k)+" "+mdCode(r.Lab.Versions[k]))
		}
		p("Versions: %s\n\n", strings.Join(vs, ", "))
	}
	mdList(b, r.Lab.Notes)
	if len(r.Run.Cleanup) > 0 {
		p("## Not cleaned up\n\n")
		mdList(b, r.Run.Cleanup)
	}
	p("---\nRun %s, hiveproof %s, started %s", mdCode(r.Run.ID), mdText(r.Run.Version), stamp(r.Run.Started))
	if t := r.Run.took(); t != "" {
		p(", took %s", t)
	}
	p("\n")
	if len(r.Run.Command) > 0 {
		p("\n%s\n", mdCode(shellLine(r.Run.Command)))
	}
}

func count(n int, unit string) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n, unit)
}

func mdTimings(m map[string]float64) string {
	var parts []string
	for _, t := range sortTimings(m) {
		parts = append(parts, mdText(t.Name)+" "+seconds(t.Seconds))
	}
	if len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

func mdList(b *bytes.Buffer, items []string) {
	for _, s := range items {
		fmt.Fprintf(b, "- %s\n", mdText(s))
	}
	if len(items) > 0 {
		b.WriteByte('\n')
	}
}

func mdCell(fs []finding) string {
	var parts []string
	for _, f := range fs {
		s := mdVerdict(f.Claim.Verdict)
		if len(fs) > 1 && f.Claim.Service != "" {
			s += " " + mdText(f.Claim.Service)
		}
		parts = append(parts, s)
	}
	return strings.Join(parts, "<br>")
}

// mdText escapes s for running text and table cells; line ends become <br>.
// Entities stand for what backslashes cannot escape in every place.
func mdText(s string) string {
	var b strings.Builder
	for _, c := range strings.TrimSpace(cleanText(s)) {
		switch c {
		case '&':
			b.WriteString("&amp;")
		case '<':
			b.WriteString("&lt;")
		case '>':
			b.WriteString("&gt;")
		case '\n':
			b.WriteString("<br>")
		case '\t':
			b.WriteByte(' ')
		case '@': // no mention of whoever has that name
			b.WriteString("&#64;")
		case '\\', '`', '*', '_', '[', ']', '|', '~', '#', '$', '!':
			b.WriteByte('\\')
			b.WriteRune(c)
		default:
			b.WriteRune(c)
		}
	}
	return b.String()
}

// mdCode makes s a code span that is safe in a table cell: fenced by more
// backticks than it has in a row, pipes escaped (GFM unescapes them in cells).
func mdCode(s string) string {
	s = oneLine(s)
	if s == "" {
		return ""
	}
	if strings.Contains(s, "|") { // outside a table the backslash would show
		return "<code>" + mdText(s) + "</code>"
	}
	fence := "`"
	for strings.Contains(s, fence) {
		fence += "`"
	}
	if strings.HasPrefix(s, "`") || strings.HasSuffix(s, "`") {
		s = " " + s + " "
	}
	return fence + s + fence
}

// shellLine joins args as a shell would need them quoted.
func shellLine(args []string) string {
	out := make([]string, len(args))
	for i, a := range args {
		if a == "" || strings.ContainsFunc(a, func(c rune) bool {
			return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("-_=+./:,@%", c))
		}) {
			a = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		out[i] = a
	}
	return strings.Join(out, " ")
}
