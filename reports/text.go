package reports

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// symbols stand beside a verdict's word, so that neither colour nor the symbol
// is the only thing that tells verdicts apart.
var symbols = map[Verdict]string{Pass: "✓", Fail: "✗", Skip: "–", Invalid: "?", Error: "!", NotRun: "○"}

// Symbol is one character for v, for tables.
func (v Verdict) Symbol() string {
	if s, ok := symbols[v]; ok {
		return s
	}
	return "!"
}

// unfinished is said of a run whose result has no end.
const unfinished = "The run ended without finishing: crashed or killed. What it had found by then is below."

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

// seconds writes a duration given in seconds for a reader: 0.34 s, 12.3 s, 4 min 33 s.
func seconds(s float64) string {
	switch {
	case math.IsNaN(s) || math.IsInf(s, 0) || s < 0:
		return "?"
	case s < 1:
		return fmt.Sprintf("%.2f s", s)
	case s < 59.95:
		return fmt.Sprintf("%.1f s", s)
	}
	n := int(math.Round(s))
	if n < 3600 {
		return fmt.Sprintf("%d min %02d s", n/60, n%60)
	}
	return fmt.Sprintf("%d h %02d min", n/3600, n%3600/60)
}

// took is how long the run took, "" if it did not finish.
func (r *Run) took() string {
	if r.Finished == nil {
		return ""
	}
	return seconds(r.Finished.Sub(r.Started).Seconds())
}

func stamp(t time.Time) string { return t.Format("2006-01-02 15:04:05 MST") }

// phaseOrder is the order in which phases happen; a JSON object has none.
var phaseOrder = []string{
	"image", "accel", "prepare", "restore", "boot", "ssh", "clock", "swarm", "join", "network", "load",
	"deploy", "converge", "probe", "judge", "evidence", "remove", "heal", "cleanup", "down", "total",
}

type timing struct {
	Name    string
	Seconds float64
}

// sortTimings puts phases in the order they happen in, unknown ones after them
// by name. "boot hive1" and "boot/hive1" sort as boot.
func sortTimings(m map[string]float64) []timing {
	ts := make([]timing, 0, len(m))
	for name, s := range m {
		ts = append(ts, timing{name, s})
	}
	rank := func(name string) int {
		words := strings.FieldsFunc(name, func(c rune) bool { return !unicode.IsLetter(c) })
		if len(words) > 0 {
			if i := slices.Index(phaseOrder, words[0]); i >= 0 {
				return i
			}
		}
		return len(phaseOrder)
	}
	slices.SortFunc(ts, func(a, b timing) int {
		if d := rank(a.Name) - rank(b.Name); d != 0 {
			return d
		}
		return natural(a.Name, b.Name)
	})
	return ts
}

// cleanText makes text of unknown origin (a console, a log) fit to be shown:
// terminal sequences are taken out, line ends made one, and what remains of
// control characters or broken UTF-8 becomes U+FFFD. Newlines and tabs stay.
func cleanText(s string) string {
	plain := true
	for i := 0; i < len(s) && plain; i++ {
		plain = s[i] >= 0x20 && s[i] < 0x7f || s[i] == '\n' || s[i] == '\t'
	}
	if plain {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		if s[i] == 0x1b {
			if n := escapeLen(s[i:]); n > 0 {
				i += n
				continue
			}
		}
		c, n := utf8.DecodeRuneInString(s[i:])
		i += n
		switch {
		case c == '\r':
			if !strings.HasPrefix(s[i:], "\n") {
				b.WriteByte('\n')
			}
		case c == '\n' || c == '\t':
			b.WriteRune(c)
		case unicode.IsControl(c) || bidi(c) || c == 0xfffe || c == 0xffff:
			b.WriteRune(utf8.RuneError)
		default:
			b.WriteRune(c)
		}
	}
	return b.String()
}

// bidi are the characters that reorder what is around them on the screen.
func bidi(c rune) bool { return c >= 0x202a && c <= 0x202e || c >= 0x2066 && c <= 0x2069 }

// escapeLen is the length of the terminal sequence (ECMA-48 CSI or OSC) that s starts with.
func escapeLen(s string) int {
	if len(s) < 2 {
		return 0
	}
	switch s[1] {
	case '[':
		for i := 2; i < len(s); i++ {
			if s[i] >= 0x40 && s[i] <= 0x7e {
				return i + 1
			}
			if s[i] < 0x20 || s[i] > 0x3f {
				return 0
			}
		}
	case ']':
		for i := 2; i < len(s); i++ {
			if s[i] == 0x07 {
				return i + 1
			}
			if s[i] == 0x1b && i+1 < len(s) && s[i+1] == '\\' {
				return i + 2
			}
		}
	}
	return 0
}

// oneLine is cleanText with every run of white space made one space.
func oneLine(s string) string { return strings.Join(strings.Fields(cleanText(s)), " ") }

// runeWidth is the number of terminal columns of c: 0 for combining marks, 2 for
// East Asian wide characters (UAX #11) and emoji.
func runeWidth(c rune) int {
	switch {
	case c < 0x20 || c >= 0x7f && c < 0xa0:
		return 0
	case c < 0x300:
		return 1
	case unicode.In(c, unicode.Mn, unicode.Me, unicode.Cf):
		return 0
	case c >= 0x1100 && c <= 0x115f, c >= 0x2e80 && c <= 0x303e, c >= 0x3041 && c <= 0x33ff,
		c >= 0x3400 && c <= 0x4dbf, c >= 0x4e00 && c <= 0x9fff, c >= 0xa000 && c <= 0xa4cf,
		c >= 0xac00 && c <= 0xd7a3, c >= 0xf900 && c <= 0xfaff, c >= 0xfe30 && c <= 0xfe6f,
		c >= 0xff00 && c <= 0xff60, c >= 0xffe0 && c <= 0xffe6, c >= 0x1f300 && c <= 0x1f64f,
		c >= 0x1f680 && c <= 0x1f6ff, c >= 0x1f900 && c <= 0x1f9ff, c >= 0x20000 && c <= 0x3fffd:
		return 2
	}
	return 1
}

// textWidth is the number of terminal columns of s, which holds no escapes.
func textWidth(s string) int {
	w := 0
	for _, c := range s {
		w += runeWidth(c)
	}
	return w
}

// truncate cuts s to at most width columns, marking a cut with "…".
func truncate(s string, width int) string {
	if width <= 0 {
		return ""
	}
	if textWidth(s) <= width {
		return s
	}
	w := 0
	for i, c := range s {
		if w += runeWidth(c); w > width-1 {
			return s[:i] + "…"
		}
	}
	return s
}

// wrapText breaks s at spaces, and words that are too long anywhere, into lines
// of at most width columns. Newlines in s are kept.
func wrapText(s string, width int) []string {
	width = max(width, 8)
	var lines []string
	for _, para := range strings.Split(s, "\n") {
		line, lw := "", 0
		for _, word := range strings.Fields(para) {
			ww := textWidth(word)
			if lw > 0 && lw+1+ww <= width {
				line, lw = line+" "+word, lw+1+ww
				continue
			}
			if lw > 0 {
				lines = append(lines, line)
			}
			line, lw = "", 0
			for _, c := range word {
				if cw := runeWidth(c); lw+cw > width {
					lines = append(lines, line)
					line, lw = string(c), cw
				} else {
					line, lw = line+string(c), lw+cw
				}
			}
		}
		lines = append(lines, line)
	}
	return lines
}

// pad fills s with spaces to width columns.
func pad(s string, width int) string {
	return s + strings.Repeat(" ", max(0, width-textWidth(s)))
}

// generic turns a measurement into what encoding/json makes of it, so that a
// fresh result and one read back are shown alike. What JSON cannot hold becomes text.
func generic(v any) any {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	dec := json.NewDecoder(strings.NewReader(string(b)))
	dec.UseNumber()
	var out any
	if err := dec.Decode(&out); err != nil {
		return fmt.Sprint(v)
	}
	return out
}

// scalar writes a generic value that is neither object nor array.
func scalar(v any) string {
	switch v := v.(type) {
	case nil:
		return "–"
	case bool:
		if v {
			return "yes"
		}
		return "no"
	case json.Number:
		if f, err := v.Float64(); err == nil && strings.ContainsAny(v.String(), ".eE") {
			if f != 0 && math.Abs(f) < 0.001 {
				return strconv.FormatFloat(f, 'g', 3, 64)
			}
			s := strconv.FormatFloat(f, 'f', 3, 64)
			return strings.TrimRight(strings.TrimRight(s, "0"), ".")
		}
		return v.String()
	case string:
		return v
	}
	return fmt.Sprint(v)
}

// flat writes a generic value on one line: "tcp: 3, udp: 4" and "a, b".
func flat(v any) string {
	switch v := v.(type) {
	case map[string]any:
		parts := make([]string, 0, len(v))
		for _, k := range sortedKeys(v) {
			parts = append(parts, k+": "+nested(v[k]))
		}
		return strings.Join(parts, ", ")
	case []any:
		parts := make([]string, 0, len(v))
		for _, e := range v {
			parts = append(parts, nested(e))
		}
		return strings.Join(parts, ", ")
	}
	return scalar(v)
}

func nested(v any) string {
	switch v.(type) {
	case map[string]any, []any:
		return "(" + flat(v) + ")"
	}
	return scalar(v)
}

// sortedKeys sorts by name, with numbers inside names (hive2, hive10, 10.0.0.9) by value.
func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, natural)
	return keys
}

// natural compares a and b with runs of digits compared as numbers.
func natural(a, b string) int {
	digits := func(s string) (string, string) {
		i := 0
		for i < len(s) && s[i] >= '0' && s[i] <= '9' {
			i++
		}
		return s[:i], s[i:]
	}
	x, y := a, b
	for x != "" && y != "" {
		dx, rx := digits(x)
		dy, ry := digits(y)
		if dx != "" && dy != "" {
			nx, ny := strings.TrimLeft(dx, "0"), strings.TrimLeft(dy, "0")
			if len(nx) != len(ny) {
				return len(nx) - len(ny)
			}
			if c := strings.Compare(nx, ny); c != 0 {
				return c
			}
			x, y = rx, ry
			continue
		}
		if x[0] != y[0] {
			return int(x[0]) - int(y[0])
		}
		x, y = x[1:], y[1:]
	}
	if len(x) != len(y) {
		return len(x) - len(y)
	}
	return strings.Compare(a, b)
}
