package recipe

import (
	"cmp"
	"regexp"
	"slices"
)

// lookup is a template that only names a variable. Anything more (filters,
// expressions, statements) is left to hive-builder.
var lookup = regexp.MustCompile(`\{\{-?\s*([A-Za-z_][A-Za-z0-9_]*)\s*-?\}\}`)

// Unresolved is a value that still holds a template.
type Unresolved struct {
	Position Position
	Service  string // empty outside the services
	Text     string // the whole value; of a !vault value only the tag
	// Needed is true where a number or a keyword must be known (mode, replicas,
	// ports, …): the field has its default until then, and neither Classify nor a
	// deployment is worth anything.
	Needed bool
}

// Unresolved lists the values that hold templates, in the order of the file.
func (r *Recipe) Unresolved() []Unresolved {
	var out []Unresolved
	seen := make(map[*node]bool)
	var walk func(n *node, service string)
	walk = func(n *node, service string) {
		if n.shared {
			if seen[n] {
				return
			}
			seen[n] = true
		}
		if n.isTemplate() {
			u := Unresolved{Position: n.pos, Service: service, Text: n.text, Needed: r.needed[n]}
			if n.tag != "" {
				u.Text = n.tag
			}
			out = append(out, u)
		}
		for _, item := range n.items {
			walk(item, service)
		}
		for _, e := range n.entries {
			walk(e.value, service)
		}
	}
	if r.root == nil {
		return nil
	}
	for _, e := range r.root.entries {
		if e.key.text != "services" {
			walk(e.value, "")
			continue
		}
		for _, s := range e.value.entries {
			walk(s.value, s.key.text)
		}
	}
	slices.SortStableFunc(out, func(a, b Unresolved) int {
		return cmp.Or(
			cmp.Compare(a.Position.Line, b.Position.Line),
			cmp.Compare(a.Position.Column, b.Position.Column))
	})
	return out
}

// Resolve puts the values of vars in the place of the templates {{ name }}, in
// all values of the file (not in keys, and what is put in is not looked through
// again), and gives what stays unresolved. Numbers and keywords that were
// templates become known by it, so that it may find Problems of the kind that
// Parse does; then the recipe is left as it was.
//
// The recipe's services stay the same ones (pointers to them stay good); what
// they point to is read anew.
func (r *Recipe) Resolve(vars map[string]string) ([]Unresolved, error) {
	resolved, problems := r.resolve(vars)
	if len(problems) > 0 {
		return nil, problems
	}
	r.become(resolved)
	return r.Unresolved(), nil
}

// ResolvePartial is Resolve for what ParsePartial has read: as much as can be
// understood with the variables put in, and everything that is wrong with the file
// then.
func (r *Recipe) ResolvePartial(vars map[string]string) Problems {
	if r.root == nil {
		return r.yaml
	}
	resolved, problems := r.resolve(vars)
	r.become(resolved)
	return problems
}

func (r *Recipe) resolve(vars map[string]string) (*Recipe, Problems) {
	resolved := &Recipe{File: r.File, document: r.document, yaml: r.yaml}
	c := &complaints{}
	for _, p := range r.yaml {
		c.add(p)
	}
	decode(resolved, fill(r.root, vars), c)
	return resolved, c.sorted()
}

// become makes r the other recipe and keeps its services' addresses.
func (r *Recipe) become(other *Recipe) {
	for i, s := range other.Services {
		if i < len(r.Services) {
			*r.Services[i] = *s
			other.Services[i] = r.Services[i]
		}
	}
	*r = *other
}

// maxFilled bounds the text that variables add to a file, in bytes. Templates
// beyond it stay.
const maxFilled = 2 * maxBytes

// fill copies a tree with the variables put in.
func fill(n *node, vars map[string]string) *node {
	f := &filler{vars: vars, done: make(map[*node]*node)}
	return f.fill(n)
}

type filler struct {
	vars   map[string]string
	done   map[*node]*node // shared nodes stay shared
	filled int
}

func (f *filler) fill(n *node) *node {
	if out, ok := f.done[n]; ok {
		return out
	}
	out := *n
	out.unknown = false
	if n.shared {
		f.done[n] = &out
	}
	if n.isTemplate() && n.tag == "" {
		out.text = lookup.ReplaceAllStringFunc(n.text, f.value)
		out.templated = out.text != n.text
	}
	out.items = make([]*node, len(n.items))
	for i, item := range n.items {
		out.items[i] = f.fill(item)
	}
	out.entries = make([]entry, len(n.entries))
	for i, e := range n.entries {
		out.entries[i] = entry{e.key, f.fill(e.value)}
	}
	return &out
}

// value is what stands for a template, itself if nothing does.
func (f *filler) value(template string) string {
	v, ok := f.vars[lookup.FindStringSubmatch(template)[1]]
	if !ok || f.filled+len(v) > maxFilled {
		return template
	}
	f.filled += len(v)
	return v
}
