package reports

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"
)

// SGR codes by verdict; bold stands for what needs attention.
var colours = map[Verdict]string{Pass: "32", Fail: "1;31", Skip: "2", Invalid: "1;33", Error: "1;35", NotRun: "33"}

func paint(colour bool, code, s string) string {
	if !colour || code == "" || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func paintVerdict(colour bool, v Verdict, s string) string {
	code, ok := colours[v]
	if !ok {
		code = colours[Error]
	}
	return paint(colour, code, s)
}

const printWidth = 88 // columns of the final table

// PrintResult writes the final table: for each scenario its claims, with the
// reason of those that are no pass, then the totals, and last the path of the
// report in dir (left out if dir is empty). Errors of w are ignored.
func PrintResult(w io.Writer, r *Result, dir string, colour bool) {
	printResult(w, r, dir, colour, false)
}

// printResult with brief leaves out what passed or was skipped.
func printResult(w io.Writer, r *Result, dir string, colour, brief bool) {
	var b strings.Builder
	widest := 0
	for _, s := range r.Scenarios {
		for _, c := range s.Claims {
			widest = max(widest, textWidth(oneLine(c.ID)))
		}
	}
	for i := range r.Scenarios {
		printScenario(&b, &r.Scenarios[i], min(widest, 40), colour, brief)
	}
	printRun(&b, r, colour)
	mark, headline := r.headline()
	b.WriteString(paintVerdict(colour, mark, mark.Symbol()+" "+headline))
	b.WriteByte('\n')
	if t := r.Run.took(); t != "" && !brief {
		fmt.Fprintf(&b, "  %s in %s\n", r.totals(), t)
	}
	if dir != "" {
		fmt.Fprintf(&b, "report: %s\n", filepath.Join(dir, HTMLFile))
	}
	_, _ = io.WriteString(w, b.String())
}

func printScenario(b *strings.Builder, s *Scenario, idWidth int, colour, brief bool) {
	v := s.verdict()
	if brief && (v == Pass || v == Skip) {
		return
	}
	fmt.Fprintf(b, "%s", paint(colour, "1", oneLine(s.ID)))
	if s.Title != "" {
		b.WriteString("  " + oneLine(s.Title))
	}
	b.WriteString("  " + paintVerdict(colour, v, v.Symbol()+" "+oneLine(string(v))) + "  " + paint(colour, "2", seconds(s.DurationS)) + "\n")
	printReason(b, s.Reason, "  ")
	for _, c := range s.Claims {
		if brief && (c.Verdict == Pass || c.Verdict == Skip) {
			continue
		}
		b.WriteString("  " + paintVerdict(colour, c.Verdict, pad(c.Verdict.Symbol()+" "+oneLine(string(c.Verdict)), 9)))
		b.WriteString("  " + oneLine(c.ID))
		if c.Service != "" {
			b.WriteString(strings.Repeat(" ", max(0, idWidth-textWidth(oneLine(c.ID)))) + "  " + paint(colour, "2", oneLine(c.Service)))
		}
		b.WriteByte('\n')
		if c.Verdict != Pass {
			printReason(b, c.Reason, strings.Repeat(" ", 13))
		}
	}
	b.WriteByte('\n')
}

func printReason(b *strings.Builder, reason, indent string) {
	if strings.TrimSpace(reason) == "" {
		return
	}
	for _, line := range wrapText(strings.TrimSpace(cleanText(reason)), printWidth-len(indent)) {
		b.WriteString(indent + line + "\n")
	}
}

func printRun(b *strings.Builder, r *Result, colour bool) {
	note := func(v Verdict, head, text string) {
		b.WriteString(paintVerdict(colour, v, head) + "\n")
		printReason(b, text, "  ")
	}
	if r.Run.Error != "" {
		note(Error, "lab error", r.Run.Error)
	}
	if !r.Run.Interrupted && r.Run.Finished == nil {
		note(NotRun, "unfinished", unfinished)
	}
	if len(r.Run.Cleanup) > 0 {
		note(Invalid, "not cleaned up", strings.Join(r.Run.Cleanup, "\n"))
	}
}
