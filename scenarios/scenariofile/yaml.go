package scenariofile

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/hiveproof/hiveproof/scenarios/recipe"
	"go.yaml.in/yaml/v4"
)

// reader walks a file's YAML and collects what is wrong with it.
type reader struct {
	file     string
	problems recipe.Problems
}

// text is a scalar and where it stands; at is nil if the file does not have it.
type text struct {
	value string
	at    *yaml.Node
}

func (r *reader) complain(at *yaml.Node, format string, args ...any) {
	p := recipe.Problem{File: r.file, Line: 1, Column: 1, Message: fmt.Sprintf(format, args...)}
	if at != nil {
		p.Line, p.Column = at.Line, at.Column
	}
	r.problems = append(r.problems, p)
}

// err gives the problems in the order of the files, nil if there are none.
func (r *reader) err() error {
	if len(r.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(r.problems, func(a, b recipe.Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return r.problems
}

// parse gives the body of the one document, nil if it cannot be read.
func (r *reader) parse(src []byte) *yaml.Node {
	if !utf8.Valid(src) {
		r.complain(nil, "not YAML: no UTF-8 text")
		return nil
	}
	// Duplicate keys are found by fields: all of them, and not only the first.
	loader, err := yaml.NewLoader(bytes.NewReader(src), yaml.WithUniqueKeys(false))
	var document, second yaml.Node
	if err == nil {
		err = loader.Load(&document)
	}
	if errors.Is(err, io.EOF) || err == nil && len(document.Content) == 0 {
		r.complain(nil, "the file is empty")
		return nil
	}
	if err == nil {
		if err = loader.Load(&second); err == nil {
			r.complain(&second, "a second document: a file holds one scenario")
			return nil
		} else if errors.Is(err, io.EOF) {
			return document.Content[0]
		}
	}
	at, message := &yaml.Node{Line: 1, Column: 1}, err.Error()
	var load *yaml.LoadError
	if errors.As(err, &load) {
		at.Line, at.Column = max(1, load.Mark.Line), max(1, load.Mark.Column)
		message = load.Message
	}
	r.complain(at, "not YAML: %s", message)
	return nil
}

// follow gives what an alias stands for.
func follow(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

func describe(n *yaml.Node) string {
	switch n = follow(n); {
	case n.Kind == yaml.MappingNode:
		return "a map"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.ShortTag() == "!!null":
		return "nothing"
	default:
		return quote(n.Value)
	}
}

func quote(value string) string {
	if utf8.RuneCountInString(value) > 60 {
		value = string([]rune(value)[:57]) + "..."
	}
	return fmt.Sprintf("%q", value)
}

// fields reads a map by a table of its keys. It gives the keys that are there, nil
// if it is no map.
func (r *reader) fields(n *yaml.Node, what string, required []string, table map[string]func(*yaml.Node)) (seen map[string]bool) {
	if m := follow(n); m.Kind != yaml.MappingNode {
		r.complain(n, "%s must be a map, not %s", what, describe(n))
		return nil
	}
	seen = r.pairs(n, func(key, value *yaml.Node) {
		read, known := table[key.Value]
		if known {
			read(value)
			return
		}
		names := slices.Sorted(maps.Keys(table))
		hint := "the keys are " + strings.Join(names, ", ")
		if near := recipe.Nearest(key.Value, names); near != "" {
			hint = fmt.Sprintf("did you mean %q?", near)
		}
		r.complain(key, "unknown key %s in %s: %s", quote(key.Value), what, hint)
	})
	for _, key := range required {
		if !seen[key] {
			r.complain(n, "%s needs %s", what, key)
		}
	}
	return seen
}

// pairs goes through a map's keys, which are texts and given once.
func (r *reader) pairs(n *yaml.Node, each func(key, value *yaml.Node)) (seen map[string]bool) {
	seen = map[string]bool{}
	content := follow(n).Content
	for i := 0; i+1 < len(content); i += 2 {
		key := content[i]
		switch {
		case key.Kind != yaml.ScalarNode:
			r.complain(key, "a key must be a text, not %s", describe(key))
		case seen[key.Value]:
			r.complain(key, "key %s is given twice", quote(key.Value))
		default:
			seen[key.Value] = true
			each(key, content[i+1])
		}
	}
	return seen
}

// list reads a list.
func (r *reader) list(n *yaml.Node, what string, each func(*yaml.Node)) {
	if l := follow(n); l.Kind != yaml.SequenceNode {
		r.complain(n, "%s must be a list, not %s", what, describe(n))
	} else {
		for _, item := range l.Content {
			each(item)
		}
	}
}

// texts is a list of different texts, one at least.
func (r *reader) texts(n *yaml.Node, what string) (out []text) {
	r.list(n, what, func(item *yaml.Node) {
		t := r.text(item, "an item of "+what)
		if t.value != "" && slices.ContainsFunc(out, func(other text) bool { return other.value == t.value }) {
			r.complain(item, "%s has %s twice", what, quote(t.value))
		}
		out = append(out, t)
	})
	if l := follow(n); l.Kind == yaml.SequenceNode && len(l.Content) == 0 {
		r.complain(n, "%s is empty", what)
	}
	return out
}

// text is a text that is not empty.
func (r *reader) text(n *yaml.Node, what string) text {
	s := follow(n)
	if s.Kind != yaml.ScalarNode || s.ShortTag() != "!!str" {
		hint := ""
		if s.Kind == yaml.ScalarNode && s.ShortTag() != "!!null" {
			hint = ": put it into quotes"
		}
		r.complain(n, "%s must be a text, not %s%s", what, describe(n), hint)
		return text{at: n}
	}
	if s.Value == "" {
		r.complain(n, "%s is empty", what)
	}
	return text{s.Value, n}
}

// choice is one of some texts.
func (r *reader) choice(n *yaml.Node, what string, of []string) string {
	s := follow(n)
	if s.Kind == yaml.ScalarNode && slices.Contains(of, s.Value) {
		return s.Value
	}
	hint := ""
	if near := recipe.Nearest(s.Value, of); near != "" {
		hint = fmt.Sprintf(": did you mean %q?", near)
	}
	r.complain(n, "%s must be %s, not %s%s", what, recipe.OneOf(of), describe(n), hint)
	return ""
}

func (r *reader) bool(n *yaml.Node, what string) bool {
	s := follow(n)
	if s.Kind != yaml.ScalarNode || s.ShortTag() != "!!bool" {
		r.complain(n, "%s must be true or false, not %s", what, describe(n))
	}
	return strings.EqualFold(s.Value, "true")
}

// plain are the tags of scalars that are texts to a template; null is the empty one.
var plain = []string{"!!str", "!!int", "!!float", "!!bool", "!!timestamp"}

// scalars is a map of names to scalars, each as it is written.
func (r *reader) scalars(n *yaml.Node, what string) map[string]text {
	if follow(n).Kind != yaml.MappingNode {
		r.complain(n, "%s must be a map, not %s", what, describe(n))
		return nil
	}
	out := map[string]text{}
	r.pairs(n, func(key, value *yaml.Node) {
		s := follow(value)
		switch {
		case s.Kind == yaml.ScalarNode && s.ShortTag() == "!!null":
			out[key.Value] = text{"", value}
		case s.Kind == yaml.ScalarNode && slices.Contains(plain, s.ShortTag()):
			out[key.Value] = text{s.Value, value}
		default:
			r.complain(value, "%s of %s must be a text or a number, not %s", quote(key.Value), what, describe(value))
		}
	})
	return out
}
