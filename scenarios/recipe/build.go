package recipe

import (
	"strings"

	"go.yaml.in/yaml/v4"
)

// Styles of scalars whose text is not resolved by YAML's implicit types.
const (
	quotedStyle = yaml.SingleQuotedStyle | yaml.DoubleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle
)

// build makes a node of the parser's. An error ends the reading of the file; what
// leaves the rest readable (a duplicate key) is only complained about.
func (b *builder) build(n *yaml.Node) (*node, error) {
	if n.Kind == yaml.AliasNode {
		return b.follow(n)
	}
	out := b.newNode()
	out.pos, out.size = b.position(n), 1+len(n.Value)/64
	if n.Anchor != "" {
		b.anchored[n] = nil
	}
	var err error
	switch n.Kind {
	case yaml.MappingNode:
		err = b.buildMap(out, n.Content)
	case yaml.SequenceNode:
		err = b.buildList(out, n.Content)
	case yaml.ScalarNode:
		out.text, out.quoted = n.Value, n.Style&quotedStyle != 0
		out.kind = kindString
		if out.quoted {
			b.texts = append(b.texts, out.pos)
		} else {
			out.kind = plainKind(out.text)
		}
	}
	if err != nil {
		return nil, err
	}
	if n.Style&yaml.TaggedStyle != 0 {
		b.applyTag(out, n.Tag)
	}
	if n.Anchor != "" {
		b.anchored[n] = out
	}
	return out, nil
}

// newNode takes a node from a block of them: a file has many, and they live as long
// as each other.
func (b *builder) newNode() *node {
	if len(b.free) == 0 {
		b.free = make([]node, 256)
	}
	out := &b.free[0]
	b.free = b.free[1:]
	return out
}

// follow gives the node that an alias stands for.
func (b *builder) follow(n *yaml.Node) (*node, error) {
	target := b.anchored[n.Alias]
	if target == nil {
		return nil, b.problem(b.position(n), "anchor &%s holds an alias of itself", n.Value)
	}
	target.shared = true
	return target, b.count(b.position(n), target.size)
}

// count bounds what is repeated by aliases and merge keys.
func (b *builder) count(pos Position, size int) error {
	if b.followed += size; b.followed > maxFollowed {
		return b.problem(pos, "aliases and merge keys repeat more than %d values", maxFollowed)
	}
	return nil
}

// position is where a node begins: behind its anchor; a map at its first key, a
// list at its first dash.
func (b *builder) position(n *yaml.Node) Position {
	pos := Position{File: b.file, Line: max(1, n.Line), Column: max(1, n.Column)}
	if n.Anchor == "" {
		return pos
	}
	if len(n.Content) > 0 && n.Style&(yaml.FlowStyle|yaml.TaggedStyle) == 0 {
		first := b.position(n.Content[0])
		if n.Kind == yaml.SequenceNode {
			first.Column = max(1, first.Column-2)
		}
		return first
	}
	const longest = 2048 // bytes of a line; what is longer was made by a program
	if line := b.lines[pos.Line-1]; len(line) <= longest {
		rest := line[byteOffset(line, pos.Column-1):]
		behind := strings.TrimPrefix(rest, "&"+n.Anchor)
		value := strings.TrimLeft(behind, " \t")
		if value != "" && value[0] != '#' {
			pos.Column += len([]rune(rest)) - len([]rune(value))
		}
	}
	return pos
}

// isNothing reports whether a value is not even written as null.
func isNothing(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.Value == "" && n.Anchor == "" && n.Style&(quotedStyle|yaml.TaggedStyle) == 0
}

func (b *builder) applyTag(n *node, tag string) {
	scalar := n.kind != kindMap && n.kind != kindList
	switch {
	case tag == "!!map" && n.kind == kindMap, tag == "!!seq" && n.kind == kindList:
	case tag == "!!str" && scalar:
		n.kind, n.quoted = kindString, true
	case (tag == "!vault" || tag == "!unsafe") && scalar:
		n.kind, n.quoted, n.tag = kindString, true, tag
	default:
		b.refuse(n.pos, "tag %s is not read here", tag)
	}
}

func (b *builder) buildList(out *node, items []*yaml.Node) error {
	out.kind = kindList
	out.items = make([]*node, 0, len(items))
	for _, n := range items {
		item, err := b.build(n)
		if err != nil {
			return err
		}
		if isNothing(n) {
			item.pos.Column = max(1, item.pos.Column-1) // of the dash
		}
		out.items = append(out.items, item)
		out.size += item.size
	}
	return nil
}

func (b *builder) buildMap(out *node, content []*yaml.Node) error {
	out.kind = kindMap
	out.entries = make([]entry, 0, len(content)/2)
	index := newIndex(out, len(content)/2)
	var merges []*yaml.Node
	for i := 0; i+1 < len(content); i += 2 {
		k, v := content[i], content[i+1]
		if k.Value == "<<" && k.Kind == yaml.ScalarNode && k.Style&quotedStyle == 0 {
			merges = append(merges, k, v)
			continue
		}
		key, err := b.buildKey(k)
		if err != nil {
			return err
		}
		value, err := b.build(v)
		if err != nil {
			return err
		}
		if isNothing(v) {
			value.pos = key.pos // the parser's own is somewhere behind the colon
		}
		if first := index.find(key.text); first != nil {
			b.complaints.add(b.problem(key.pos, "key %s is given twice, first in line %d", quote(key.text), first.pos.Line))
			continue
		}
		index.add(entry{key, value})
		out.size += value.size
	}
	for i := 0; i < len(merges); i += 2 {
		if err := b.merge(out, index, merges[i], merges[i+1]); err != nil {
			return err
		}
	}
	return nil
}

// index finds the keys of a map that is being built. Few keys are found faster by
// looking at each.
type index struct {
	n    *node
	keys map[string]*node // nil while there are few
}

func newIndex(n *node, size int) *index {
	x := &index{n: n}
	if size > few {
		x.keys = make(map[string]*node, size)
	}
	return x
}

const few = 16

func (x *index) find(key string) *node {
	if x.keys != nil {
		return x.keys[key]
	}
	for _, e := range x.n.entries {
		if e.key.text == key {
			return e.key
		}
	}
	return nil
}

func (x *index) add(e entry) {
	x.n.entries = append(x.n.entries, e)
	switch {
	case x.keys != nil:
		x.keys[e.key.text] = e.key
	case len(x.n.entries) > few:
		x.keys = make(map[string]*node, 2*few)
		for _, e := range x.n.entries {
			x.keys[e.key.text] = e.key
		}
	}
}

// merge adds the entries of "<<: *anchor" that the map does not have itself.
func (b *builder) merge(out *node, index *index, key, value *yaml.Node) error {
	from, err := b.build(value)
	if err != nil {
		return err
	}
	sources := []*node{from}
	if from.kind == kindList {
		sources = from.items
	}
	for _, source := range sources {
		if source.kind != kindMap {
			return b.problem(b.position(key), "<< merges maps, not %s", source.kind)
		}
		if err := b.count(b.position(key), len(source.entries)+1); err != nil {
			return err
		}
		for _, e := range source.entries {
			if index.find(e.key.text) != nil {
				continue
			}
			e.value.shared = true
			index.add(e)
			out.size += e.value.size
		}
	}
	return nil
}

func (b *builder) buildKey(n *yaml.Node) (*node, error) {
	key, err := b.build(n)
	if err != nil {
		return nil, err
	}
	switch key.kind {
	case kindString:
	case kindMap:
		return nil, b.problem(key.pos, "a map is no key (a value that begins with a template must be quoted)")
	case kindList:
		return nil, b.problem(key.pos, "a list is no key")
	default:
		b.refuse(key.pos, "key %s is %s to YAML: quote it", quote(key.text), key.kind)
	}
	return key, nil
}
