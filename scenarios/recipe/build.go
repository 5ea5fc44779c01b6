package recipe

import (
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// build makes a node of the parser's. An error ends the reading of the file; what
// leaves the rest readable (a duplicate key) is only complained about.
func (b *builder) build(n ast.Node) (*node, error) {
	out := &node{pos: b.position(n), size: 1}
	switch n := n.(type) {
	case nil, *ast.NullNode:
		out.kind = kindNull
	case *ast.BoolNode, *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		out.text = n.GetToken().Value
		out.kind = plainKind(out.text)
	case *ast.StringNode:
		out.text = n.Value
		out.quoted = n.Token.Type == token.SingleQuoteType || n.Token.Type == token.DoubleQuoteType
		out.kind = kindString
		if out.quoted {
			b.texts = append(b.texts, out.pos)
		} else {
			out.kind = plainKind(out.text)
		}
	case *ast.LiteralNode:
		out.text, out.quoted, out.kind = n.Value.Value, true, kindString
		b.texts = append(b.texts, out.pos)
	case *ast.MappingNode:
		return out, b.buildMap(out, n.Values)
	case *ast.MappingValueNode:
		return out, b.buildMap(out, []*ast.MappingValueNode{n})
	case *ast.SequenceNode:
		out.kind = kindList
		for i, v := range n.Values {
			item, err := b.build(v)
			if err != nil {
				return nil, err
			}
			if isNothing(v) && i < len(n.Entries) && n.Entries[i].Start != nil {
				item.pos = b.tokenPosition(n.Entries[i].Start)
			}
			out.items = append(out.items, item)
			if err := b.grow(out, item); err != nil {
				return nil, err
			}
		}
	case *ast.AnchorNode:
		return b.buildAnchor(n)
	case *ast.AliasNode:
		name := strings.TrimSpace(n.Value.GetToken().Value)
		target, known := b.anchors[name]
		switch {
		case !known:
			return nil, b.problem(out.pos, "not YAML: no anchor &%s before this alias", name)
		case target == nil:
			return nil, b.problem(out.pos, "anchor &%s holds an alias of itself", name)
		}
		return target, nil
	case *ast.TagNode:
		return b.buildTag(n)
	default:
		return nil, b.problem(out.pos, "not YAML that hive-builder reads: %s", n.Type())
	}
	return out, nil
}

// isNothing reports whether a value is not even written as null.
func isNothing(n ast.Node) bool {
	null, ok := n.(*ast.NullNode)
	return ok && null.Token.Type == token.ImplicitNullType
}

// grow adds a child's size to its parent's and refuses what is too large once
// its aliases are followed.
func (b *builder) grow(parent, child *node) error {
	if parent.size += child.size; parent.size > maxNodes {
		return b.problem(parent.pos, "more than %d values once the aliases are followed", maxNodes)
	}
	return nil
}

func (b *builder) buildAnchor(n *ast.AnchorNode) (*node, error) {
	name := strings.TrimSpace(n.Name.GetToken().Value)
	b.anchors[name] = nil
	out, err := b.build(n.Value)
	if err != nil {
		return nil, err
	}
	b.anchors[name] = out
	return out, nil
}

func (b *builder) buildTag(n *ast.TagNode) (*node, error) {
	if n.Value == nil {
		return nil, b.problem(b.position(n), "tag %s without a value", n.Start.Value)
	}
	out, err := b.build(n.Value)
	if err != nil {
		return nil, err
	}
	tagged := *out
	tagged.pos = b.position(n)
	scalar := out.kind != kindMap && out.kind != kindList
	switch tag := n.Start.Value; {
	case tag == "!!map" && out.kind == kindMap, tag == "!!seq" && out.kind == kindList:
	case tag == "!!str" && scalar:
		tagged.kind, tagged.quoted = kindString, true
		return &tagged, nil
	case (tag == "!vault" || tag == "!unsafe") && scalar:
		tagged.kind, tagged.quoted, tagged.tag = kindString, true, tag
		return &tagged, nil
	default:
		b.refuse(tagged.pos, "tag %s is not read here", tag)
	}
	return out, nil
}

func (b *builder) buildMap(out *node, values []*ast.MappingValueNode) error {
	out.kind = kindMap
	index := make(map[string]int, len(values))
	var merges []*ast.MappingValueNode
	for _, v := range values {
		if v.Key.IsMergeKey() {
			merges = append(merges, v)
			continue
		}
		key, err := b.buildKey(v.Key)
		if err != nil {
			return err
		}
		value, err := b.build(v.Value)
		if err != nil {
			return err
		}
		if isNothing(v.Value) {
			value.pos = key.pos // the parser's own is somewhere behind the colon
		}
		if first, twice := index[key.text]; twice {
			b.complain(key.pos, "key %s is given twice, first in line %d", quote(key.text), out.entries[first].key.pos.Line)
			continue
		}
		index[key.text] = len(out.entries)
		out.entries = append(out.entries, entry{key, value})
		if err := b.grow(out, value); err != nil {
			return err
		}
	}
	for _, v := range merges {
		if err := b.merge(out, index, v); err != nil {
			return err
		}
	}
	return nil
}

// merge adds the entries of "<<: *anchor" that the map does not have itself.
func (b *builder) merge(out *node, index map[string]int, v *ast.MappingValueNode) error {
	from, err := b.build(v.Value)
	if err != nil {
		return err
	}
	sources := []*node{from}
	if from.kind == kindList {
		sources = from.items
	}
	for _, source := range sources {
		if source.kind != kindMap {
			return b.problem(b.position(v.Key), "<< merges maps, not %s", source.kind)
		}
		if b.merged += len(source.entries) + 1; b.merged > maxNodes {
			return b.problem(b.position(v.Key), "more than %d values merged", maxNodes)
		}
		for _, e := range source.entries {
			if _, own := index[e.key.text]; own {
				continue
			}
			index[e.key.text] = len(out.entries)
			out.entries = append(out.entries, e)
			if err := b.grow(out, e.value); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *builder) buildKey(k ast.MapKeyNode) (*node, error) {
	n := ast.Node(k)
	if explicit, ok := n.(*ast.MappingKeyNode); ok {
		n = explicit.Value
	}
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return nil, b.problem(b.position(k), "a map is no key (a value that begins with a template must be quoted)")
	case *ast.SequenceNode:
		return nil, b.problem(b.position(k), "a list is no key")
	}
	key, err := b.build(n)
	if err != nil {
		return nil, err
	}
	switch key.kind {
	case kindString:
	case kindMap, kindList:
		return nil, b.problem(key.pos, "%s is no key", key.kind)
	default:
		b.refuse(key.pos, "key %s is %s to YAML: quote it", quote(key.text), key.kind)
	}
	return key, nil
}
