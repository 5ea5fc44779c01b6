package reports

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/term"
)

// Diagnostic is something to say about a place in a file.
type Diagnostic struct {
	File         string
	Line, Column int    // from 1, Column in characters
	Level        string // error, warning, note or ignored
	About        string // what it is about, such as a rule; may be empty
	Message      string
	Source       string // the line of the file, shown with a caret; may be empty
}

var levelColours = map[string]string{"error": colours[Fail], "warning": colours[Invalid], "note": "1;36", "ignored": colours[Skip]}

// Text is "file:line:column: level about: message" and below it the line of the
// file with a caret under the column, each with its end of line.
func (d Diagnostic) Text(colour bool) string {
	var b strings.Builder
	place := oneLine(fmt.Sprintf("%s:%d:%d:", d.File, d.Line, d.Column))
	b.WriteString(paint(colour, "1", place) + " " + paint(colour, levelColours[d.Level], d.Level))
	if d.About != "" {
		b.WriteString(" " + oneLine(d.About))
	}
	b.WriteString(": " + oneLine(d.Message) + "\n")
	if d.Source != "" {
		before, after := excerpt(d.Source, d.Column)
		number := fmt.Sprintf("%5d", d.Line)
		b.WriteString(paint(colour, "2", number+" | ") + before + after + "\n")
		b.WriteString(paint(colour, "2", strings.Repeat(" ", len(number))+" | ") +
			strings.Repeat(" ", textWidth(before)) + paint(colour, "1;32", "^") + "\n")
	}
	return b.String()
}

// excerptWidth is how much of a long line is shown on either side of a column.
const excerptWidth = 80

// excerpt is what a line holds before a column and from there on.
func excerpt(line string, column int) (before, after string) {
	runes := []rune(line)
	at := min(max(column-1, 0), len(runes))
	show := func(part []rune) string {
		text := strings.ReplaceAll(cleanText(string(part)), "\t", " ")
		return strings.ReplaceAll(text, "\n", " ")
	}
	if at > excerptWidth {
		before = "…" + show(runes[at-excerptWidth:at])
	} else {
		before = show(runes[:at])
	}
	return before, truncate(show(runes[at:min(len(runes), at+2*excerptWidth)]), excerptWidth)
}

// Headline is a line that sums diagnostics up, marked and coloured by the worst
// level among them; empty is none.
func Headline(level, text string, colour bool) string {
	switch level {
	case "error":
		return paint(colour, levelColours[level], "✗ "+text)
	case "":
		return paint(colour, colours[Pass], "✓ "+text)
	default:
		return paint(colour, levelColours[level], "! "+text)
	}
}

// UseColour reports whether what is written to f should have colours: only on a
// terminal, and not if the environment's NO_COLOR says no (no-color.org).
func UseColour(f *os.File) bool { return drawable(f) && os.Getenv("NO_COLOR") == "" }

func drawable(f *os.File) bool {
	return term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"
}
