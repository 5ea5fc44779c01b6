package lint

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/hiveproof/hiveproof/scenarios/recipe"
)

// mark begins the comments that are meant for lint.
const mark = "hiveproof:"

// silence takes the findings away that comments ignore, lists them, and notes the
// comments that ignore nothing. A comment reads
//
//	# hiveproof:ignore HP205 why, or HP205,HP007 why
//
// and is about its own line, or if it stands alone, about the next line that is
// more than a comment. If a service begins in that line, it is about all of the
// service. A comment without a reason ignores nothing.
func (f *File) silence() {
	comments := f.recipe.Comments()
	targets := targetLines(f.recipe, comments)
	begin := make(map[int][]*recipe.Service)
	for _, s := range f.recipe.Services {
		begin[s.Position.Line] = append(begin[s.Position.Line], s)
	}
	type place struct {
		rule, service string
		line          int
	}
	byPlace := make(map[place][]int)
	for i, finding := range f.Findings {
		at := place{rule: finding.Rule, line: finding.Line}
		byPlace[at] = append(byPlace[at], i)
		if finding.Service != "" {
			of := place{rule: finding.Rule, service: finding.Service}
			byPlace[of] = append(byPlace[of], i)
		}
	}
	silenced := make(map[int]Ignored)
	for i, c := range comments {
		ids, reason, bad, ours := parseIgnore(c.Text)
		if !ours {
			continue
		}
		here := Place{c.Position.Line, c.Position.Column}
		services := begin[targets[i]]
		for _, id := range ids {
			hits := byPlace[place{rule: id, line: targets[i]}]
			for _, s := range services {
				hits = append(slices.Clone(hits), byPlace[place{rule: id, service: s.Name}]...)
			}
			for _, hit := range hits {
				if _, twice := silenced[hit]; !twice {
					silenced[hit] = Ignored{f.Findings[hit], reason, here}
				}
			}
			if len(hits) == 0 && f.lookedAt(targets[i]) {
				bad = append(bad, fmt.Sprintf("this comment ignores nothing: there is no %s here; take it away", id))
			}
		}
		for _, message := range bad {
			f.BadIgnores = append(f.BadIgnores, Note{Place: here, Message: message})
		}
	}
	left := f.Findings[:0]
	for i, finding := range f.Findings {
		if ignored, ok := silenced[i]; ok {
			f.Ignored = append(f.Ignored, ignored)
			continue
		}
		left = append(left, finding)
	}
	f.Findings = left
}

// targetLines gives for each comment the line that it is about.
func targetLines(r *recipe.Recipe, comments []recipe.Comment) []int {
	targets := make([]int, len(comments))
	next := 0 // the line that the comment below is about, if it stands alone
	for i, c := range slices.Backward(comments) {
		line := c.Position.Line
		if !c.Alone {
			targets[i], next = line, line
			continue
		}
		// Between two comments that stand alone are only blank lines, or text.
		below := line + 1
		limit := below + 256 // no file has more blank lines in a row
		for below < limit && strings.TrimSpace(r.Line(below)) == "" {
			below++
		}
		if i+1 < len(comments) && comments[i+1].Alone && comments[i+1].Position.Line == below {
			below = next
		}
		targets[i], next = below, below
	}
	return targets
}

// parseIgnore reads a comment; ours is false if it is not meant for lint. bad says
// what is wrong with it, and ids are those that it may ignore.
func parseIgnore(text string) (ids []string, reason string, bad []string, ours bool) {
	rest, ours := strings.CutPrefix(text, mark)
	if !ours {
		return nil, "", nil, false
	}
	word, rest, _ := strings.Cut(rest, " ")
	list, reason, _ := strings.Cut(strings.TrimSpace(rest), " ")
	reason = strings.TrimSpace(reason)
	switch {
	case word != "ignore":
		return nil, "", []string{fmt.Sprintf("%s%s is not known here; write %signore HP205 and the reason", mark, word, mark)}, true
	case list == "":
		return nil, "", []string{"this comment names no rule; write such as " + mark + "ignore HP205 and the reason"}, true
	}
	for id := range strings.SplitSeq(list, ",") {
		if _, known := RuleByID(id); !known {
			bad = append(bad, fmt.Sprintf("%q is no rule of lint", id))
			continue
		}
		ids = append(ids, id)
	}
	if reason == "" && len(ids) > 0 {
		return nil, "", append(bad, fmt.Sprintf("this comment has no reason, and so ignores nothing; write it behind %s", list)), true
	}
	return ids, reason, bad, true
}

// lookedAt reports whether the service that a line belongs to is on the stage.
func (f *File) lookedAt(line int) bool {
	services := f.recipe.Services
	next, _ := slices.BinarySearchFunc(services, line+1, func(s *recipe.Service, line int) int { return cmp.Compare(s.Position.Line, line) })
	return next == 0 || !f.elsewhere[services[next-1].Name]
}
