package recipe

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// decoder turns nodes into values and collects what is wrong with them. Its
// methods give the zero value for a node that they complain about, and for one
// that must be known and is still a template.
type decoder struct {
	complaints *complaints
	needed     map[*node]bool
	service    string
	doubts     int // complaints and needed templates so far
}

func (d *decoder) complain(pos Position, format string, args ...any) {
	d.report(RuleValue, pos, format, args...)
}

func (d *decoder) report(rule string, pos Position, format string, args ...any) {
	d.doubts++
	if d.complaints.full() {
		return
	}
	d.complaints.add(Problem{
		File: pos.File, Line: pos.Line, Column: pos.Column,
		Service: d.service, Rule: rule, Message: fmt.Sprintf(format, args...),
	})
}

// watch runs read and marks n as unknown if it has left a doubt about it.
func (d *decoder) watch(n *node, read func()) {
	before := d.doubts
	read()
	n.unknown = n.unknown || d.doubts > before
}

// quote puts text into quotes for a message, shortened if it is long.
func quote(text string) string {
	if cut := byteOffset(text, 57); byteOffset(text[cut:], 3) < len(text[cut:]) {
		text = text[:cut] + "..."
	}
	return strconv.Quote(text)
}

// describe says what a node is: a scalar by its text, else its kind.
func (n *node) describe() string {
	switch {
	case n.kind == kindMap, n.kind == kindList, n.kind == kindNull:
		return n.kind.String()
	case n.kind == kindString:
		return quote(n.text)
	default:
		return n.text
	}
}

// field reads one key's value into v.
type field[T any] func(d *decoder, v T, key string, n *node)

// fields reads a map by a table of its keys. hint may explain an unknown key
// better than the nearest known one does.
func fields[T any](d *decoder, n *node, what string, table map[string]field[T], v T, hint func(key string) string) {
	if !d.isMap(n, what) {
		return
	}
	for _, e := range n.entries {
		if d.complaints.full() {
			return
		}
		if read, known := table[e.key.text]; known {
			d.watch(e.value, func() { read(d, v, e.key.text, e.value) })
			continue
		}
		d.unknown(e.key, what, slices.Sorted(maps.Keys(table)), hint)
	}
}

func (d *decoder) unknown(key *node, what string, known []string, hint func(string) string) {
	message := fmt.Sprintf("unknown key %s in %s", quote(key.text), what)
	if hint != nil {
		if h := hint(key.text); h != "" {
			d.report(RuleKey, key.pos, "%s: %s", message, h)
			return
		}
	}
	if name := Nearest(key.text, known); name != "" {
		message += fmt.Sprintf(": did you mean %q?", name)
	}
	d.report(RuleKey, key.pos, "%s", message)
}

func (d *decoder) isMap(n *node, what string) bool {
	if n.kind != kindMap {
		d.complain(n.pos, "%s must be a map, not %s", what, n.describe())
	}
	return n.kind == kindMap
}

func (d *decoder) isList(n *node, what string) bool {
	if n.kind != kindList {
		d.complain(n.pos, "%s must be a list, not %s", what, n.describe())
	}
	return n.kind == kindList
}

// isTemplate reports whether the text holds a template that Ansible would
// evaluate.
func (n *node) isTemplate() bool {
	return n.kind == kindString && n.tag != "!unsafe" &&
		(n.tag == "!vault" || strings.Contains(n.text, "{{") || strings.Contains(n.text, "{%"))
}

// pending notes a template where the value must be known.
func (d *decoder) pending(n *node) bool {
	if !n.isTemplate() {
		return false
	}
	d.needed[n] = true
	d.doubts++
	return true
}

// str reads a string that YAML takes for one.
func (d *decoder) str(n *node, what string) string {
	switch n.kind {
	case kindString:
		return n.text
	case kindList, kindMap, kindNull:
		d.complain(n.pos, "%s must be a string, not %s", what, n.describe())
	default:
		d.complain(n.pos, "%s must be a string, and %s is %s to YAML: quote it", what, n.text, n.kind)
	}
	return ""
}

// word is str for a string that must not be empty.
func (d *decoder) word(n *node, what string) string {
	s := d.str(n, what)
	if s == "" && n.kind == kindString {
		d.complain(n.pos, "%s is empty", what)
	}
	return s
}

// text reads a string or a number; Ansible makes strings of numbers there.
func (d *decoder) text(n *node, what string) string {
	if n.kind == kindInt || n.kind == kindFloat {
		return n.text
	}
	return d.word(n, what)
}

func (d *decoder) bool(n *node, what string) bool {
	switch {
	case n.kind == kindBool, n.templated && boolPattern.MatchString(n.text):
		return parseBool(n.text)
	case !d.pending(n):
		d.complain(n.pos, "%s must be true or false, not %s", what, n.describe())
	}
	return false
}

// int reads a whole number between low and high, quoted or not.
func (d *decoder) int(n *node, what string, low, high int64) int {
	if n.kind != kindInt && (n.kind != kindString || !intPattern.MatchString(n.text)) {
		if !d.pending(n) {
			d.complain(n.pos, "%s must be a whole number, not %s", what, n.describe())
		}
		return 0
	}
	v, ok := parseInt(n.text)
	if !ok || v < low || v > high {
		d.complain(n.pos, "%s must be between %d and %d, not %s", what, low, high, n.text)
		return 0
	}
	return int(v)
}

// choice reads one of the given words, or gives the first.
func choice[S ~string](d *decoder, n *node, what string, words ...S) S {
	if n.kind == kindString {
		if slices.Contains(words, S(n.text)) {
			return S(n.text)
		}
		if d.pending(n) {
			return words[0]
		}
	}
	message := fmt.Sprintf("%s must be %s, not %s", what, OneOf(words), n.describe())
	names := make([]string, len(words))
	for i, w := range words {
		names[i] = string(w)
	}
	if name := Nearest(n.text, names); name != "" {
		message += fmt.Sprintf(": did you mean %q?", name)
	}
	d.complain(n.pos, "%s", message)
	return words[0]
}

// duration reads such as 1m30s.
func (d *decoder) duration(n *node, what string) time.Duration {
	if d.pending(n) {
		return 0
	}
	v, err := time.ParseDuration(n.text)
	if n.kind != kindString || err != nil || v < 0 {
		d.complain(n.pos, "%s must be a duration such as 10s or 1m30s, not %s", what, n.describe())
		return 0
	}
	return v
}

// size reads such as 500M, in bytes.
func (d *decoder) size(n *node, what string, needUnit bool) int64 {
	if d.pending(n) {
		return 0
	}
	bytes, unit, ok := parseSize(n.text)
	switch {
	case !ok || n.kind != kindString && n.kind != kindInt:
		d.complain(n.pos, "%s must be a size such as 500M or 20G, not %s", what, n.describe())
		return 0
	case needUnit && !unit:
		d.complain(n.pos, "%s needs a unit, such as %sM", what, n.text)
		return 0
	}
	return bytes
}

// list reads a list of strings; each element's name in messages is what.
func (d *decoder) list(n *node, what string) []string {
	if !d.isList(n, what) {
		return nil
	}
	out := make([]string, 0, len(n.items))
	for _, item := range n.items {
		out = append(out, d.text(item, "an element of "+what))
	}
	return out
}

// listOrCommas reads a list, or a string that Ansible splits at its commas (once
// no template is left in it).
func (d *decoder) listOrCommas(n *node, what string) []string {
	switch {
	case n.kind != kindString:
		return d.list(n, what)
	case n.isTemplate():
		return []string{n.text}
	}
	return strings.Split(d.word(n, what), ",")
}

// command reads a list of arguments, which may be empty strings, or a string
// that split takes apart.
func (d *decoder) command(n *node, what string, split func(*node, string) []string) []string {
	switch {
	case n.kind == kindString:
		return split(n, what)
	case n.kind != kindList:
		d.complain(n.pos, "%s must be a string or a list, not %s", what, n.describe())
		return nil
	}
	out := make([]string, 0, len(n.items))
	for _, item := range n.items {
		if item.kind == kindInt || item.kind == kindFloat {
			out = append(out, item.text)
			continue
		}
		out = append(out, d.str(item, "an element of "+what))
	}
	return out
}

func (d *decoder) stages(n *node, what string) []string {
	if !d.isList(n, what) {
		return nil
	}
	out := make([]string, 0, len(n.items))
	for _, item := range n.items {
		out = append(out, choice(d, item, "an element of "+what, stages...))
	}
	return out
}

// pairs reads a map of names to strings.
func (d *decoder) pairs(n *node, what string) Pairs {
	return d.pairsOf(n, what, func(v *node, name string) string { return d.str(v, name) })
}

func (d *decoder) pairsOf(n *node, what string, value func(v *node, name string) string) Pairs {
	if !d.isMap(n, what) {
		return nil
	}
	out := make(Pairs, 0, len(n.entries))
	for _, e := range n.entries {
		out = append(out, Pair{e.key.pos, e.value.pos, e.key.text, value(e.value, what+" "+quote(e.key.text))})
	}
	return out
}

// pairsOrList reads a map of names to strings, or a list of "name=value".
func (d *decoder) pairsOrList(n *node, what string) Pairs {
	if n.kind != kindList {
		return d.pairs(n, what)
	}
	out := make(Pairs, 0, len(n.items))
	seen := make(map[string]bool, len(n.items))
	for _, item := range n.items {
		name, value, ok := strings.Cut(d.str(item, "an element of "+what), "=")
		switch {
		case item.kind != kindString:
		case !ok || name == "":
			d.complain(item.pos, "an element of %s must be NAME=value, not %s", what, item.describe())
		default:
			if seen[name] {
				d.complain(item.pos, "%s %s is given twice", what, quote(name))
			}
			seen[name] = true
			out = append(out, Pair{item.pos, item.pos, name, value})
		}
	}
	return out
}

// jsonPairs reads a map whose values may be anything; what is no string becomes
// its JSON.
func (d *decoder) jsonPairs(n *node, what string) Pairs {
	return d.pairsOf(n, what, func(v *node, name string) string {
		switch v.kind {
		case kindString, kindFloat, kindTime:
			return v.text
		}
		text, err := json.Marshal(v.value())
		if err != nil {
			d.complain(v.pos, "%s: %v", name, err)
		}
		return string(text)
	})
}

// words splits a string as a POSIX shell splits words: blanks part them, quotes
// and backslashes keep them. A template is left whole, for it is filled in first.
func (d *decoder) words(n *node, what string) []string {
	if n.isTemplate() {
		return []string{n.text}
	}
	var (
		out            []string
		word           strings.Builder
		inWord, escape bool
		in             rune
	)
	for _, r := range d.word(n, what) {
		switch {
		case escape:
			if in == '"' && r != '"' && r != '\\' {
				word.WriteRune('\\')
			}
			word.WriteRune(r)
			escape = false
		case r == '\\' && in != '\'':
			escape, inWord = true, true
		case in != 0 && r == in:
			in = 0
		case in != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			in, inWord = r, true
		case strings.ContainsRune(" \t\r\n", r):
			if inWord {
				out = append(out, word.String())
			}
			word.Reset()
			inWord = false
		default:
			word.WriteRune(r)
			inWord = true
		}
	}
	if in != 0 || escape {
		d.complain(n.pos, "%s has a quote that does not end", what)
	}
	if inWord {
		out = append(out, word.String())
	}
	return out
}
