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
	filled := fill(r.root, vars, make(map[*node]*node))
	resolved := &Recipe{File: r.File, lines: r.lines, texts: r.texts}
	c := &complaints{}
	decode(resolved, filled, c)
	if problems := c.sorted(); len(problems) > 0 {
		return nil, problems
	}
	for i, s := range resolved.Services {
		*r.Services[i] = *s
		resolved.Services[i] = r.Services[i]
	}
	*r = *resolved
	return r.Unresolved(), nil
}

// fill copies a tree with the variables put in; done keeps shared nodes shared.
func fill(n *node, vars map[string]string, done map[*node]*node) *node {
	if out, ok := done[n]; ok {
		return out
	}
	out := *n
	out.unknown = false
	if n.shared {
		done[n] = &out
	}
	if n.isTemplate() && n.tag == "" {
		out.text = lookup.ReplaceAllStringFunc(n.text, func(m string) string {
			if v, ok := vars[lookup.FindStringSubmatch(m)[1]]; ok {
				return v
			}
			return m
		})
		out.templated = out.text != n.text
	}
	out.items = make([]*node, len(n.items))
	for i, item := range n.items {
		out.items[i] = fill(item, vars, done)
	}
	out.entries = make([]entry, len(n.entries))
	for i, e := range n.entries {
		out.entries[i] = entry{e.key, fill(e.value, vars, done)}
	}
	return &out
}
