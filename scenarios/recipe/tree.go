package recipe

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Bounds on a document. A services file has some hundred lines; these leave room
// for thousands of services and keep hostile input from costing more than a few
// seconds (the YAML parser is quadratic in the keys of one map, in depth, in
// anchors and in blank lines, and aliases may stand for exponentially more than is
// written).
const (
	maxBytes   = 1 << 20
	maxTokens  = 300_000
	maxMapKeys = 4096
	maxDepth   = 64
	maxMarks   = 4096    // anchors and tags
	maxBlank   = 256     // blank lines in a row
	maxNodes   = 250_000 // after the expansion of aliases
)

// node is a YAML node with its place in the file. Aliases share the node of
// their anchor, so that a tree is a graph without cycles.
type node struct {
	kind      kind
	text      string // a scalar's text, without quotes
	quoted    bool   // quoted, a block scalar, or tagged as a string
	tag       string // "!vault" or "!unsafe", Ansible's own tags
	templated bool   // the text came out of Resolve
	pos       Position
	entries   []entry // of a map, in file order, keys unique
	items     []*node // of a list
	size      int     // number of nodes, aliases expanded
	unknown   bool    // something about it was wrong, or it must be known and is a template
}

type entry struct{ key, value *node }

// get is the value of a key, nil if the map does not have it.
func (n *node) get(key string) *node {
	for _, e := range n.entries {
		if e.key.text == key {
			return e.value
		}
	}
	return nil
}

// value gives the node as encoding/json would: map[string]any, []any, string,
// bool, int64, float text as string, nil.
func (n *node) value() any {
	switch n.kind {
	case kindMap:
		m := make(map[string]any, len(n.entries))
		for _, e := range n.entries {
			m[e.key.text] = e.value.value()
		}
		return m
	case kindList:
		l := make([]any, len(n.items))
		for i, item := range n.items {
			l[i] = item.value()
		}
		return l
	case kindNull:
		return nil
	case kindBool:
		return parseBool(n.text)
	case kindInt:
		if v, ok := parseInt(n.text); ok {
			return v
		}
	}
	return n.text
}

// tree reads the one document of src. Whatever is wrong with it as YAML goes to
// c, and then the result may be nil. Beside it are the places where quoted and
// block scalars begin, in the order of the file.
func tree(file string, src []byte, c *complaints) (*node, []Position) {
	b := &builder{file: file, complaints: c, anchors: make(map[string]*node)}
	if !b.checkText(src) {
		return nil, nil
	}
	body, err := b.parse(lineBreaks.Replace(strings.TrimPrefix(string(src), "\ufeff")))
	if err != nil {
		b.complain(b.faultPosition(err), "not YAML: %s", b.faultText(err))
		return nil, nil
	}
	if body == nil {
		return nil, nil
	}
	root, err := b.build(body)
	if err != nil {
		var p Problem
		if errors.As(err, &p) {
			c.add(p)
		}
		return nil, nil
	}
	return root, b.texts
}

// lineBreaks makes one of YAML's three line breaks, as YAML itself does.
var lineBreaks = strings.NewReplacer("\r\n", "\n", "\r", "\n")

type builder struct {
	file       string
	complaints *complaints
	lines      []string
	anchors    map[string]*node // nil while the anchor's own node is being built
	merged     int              // entries looked at for merge keys
	texts      []Position       // of quoted and block scalars
}

func (b *builder) problem(pos Position, format string, args ...any) Problem {
	return Problem{File: b.file, Line: pos.Line, Column: pos.Column, Rule: RuleYAML, Message: fmt.Sprintf(format, args...)}
}

func (b *builder) complain(pos Position, format string, args ...any) {
	b.complaints.add(b.problem(pos, format, args...))
}

// refuse complains about what is YAML and yet not what hive-builder reads.
func (b *builder) refuse(pos Position, format string, args ...any) {
	p := b.problem(pos, format, args...)
	p.Rule = RuleValue
	b.complaints.add(p)
}

// checkText refuses what is no text of a sane size, before anything parses it.
func (b *builder) checkText(src []byte) bool {
	start := Position{File: b.file, Line: 1, Column: 1}
	if len(src) > maxBytes {
		b.complain(start, "the file has %d bytes; more than %d are not read", len(src), maxBytes)
		return false
	}
	pos := start
	for rest := bytes.TrimPrefix(src, []byte("\ufeff")); len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		switch {
		case r == utf8.RuneError && size == 1:
			b.complain(pos, "not YAML: byte 0x%02x is no UTF-8", rest[0])
			return false
		case r < ' ' && r != '\t' && r != '\n' && r != '\r', r == 0x7f:
			b.complain(pos, "not YAML: control character %U", r)
			return false
		case r == '\n', r == '\r' && !bytes.HasPrefix(rest, []byte("\r\n")):
			pos.Line, pos.Column = pos.Line+1, 1
		default:
			pos.Column++
		}
		rest = rest[size:]
	}
	return true
}

// parse gives the body of the document. The parser must not take the program
// down with it, whatever it is fed.
func (b *builder) parse(src string) (body ast.Node, err error) {
	defer func() {
		if r := recover(); r != nil {
			body, err = nil, fmt.Errorf("the parser gave up: %v", r)
		}
	}()
	b.lines = strings.Split(src, "\n")
	blank := 0
	for i, line := range b.lines {
		if blank++; strings.TrimLeft(line, " \t") != "" {
			blank = 0
		}
		if blank > maxBlank {
			return nil, b.problem(Position{Line: i + 1, Column: 1}, "more than %d blank lines in a row", maxBlank)
		}
	}
	tokens := lexer.Tokenize(src)
	if err := b.checkTokens(tokens); err != nil {
		return nil, err
	}
	// Duplicate keys are found by build, all of them and not only the first.
	f, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, err
	}
	for _, doc := range f.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.DirectiveType {
			continue
		}
		if body != nil {
			return nil, b.problem(b.position(doc.Body), "a second document; hive-builder reads files of one")
		}
		body = doc.Body
	}
	return body, nil
}

// checkTokens bounds what the parser is quadratic in.
func (b *builder) checkTokens(tokens token.Tokens) error {
	if len(tokens) > maxTokens {
		return b.problem(Position{Line: 1, Column: 1}, "more than %d YAML tokens", maxTokens)
	}
	type level struct{ column, keys int }
	var levels []level
	flow, marks, documents := 0, 0, 0
	for i, tk := range tokens {
		column := tk.Position.Column
		switch tk.Type {
		case token.MappingStartType, token.SequenceStartType:
			flow++
		case token.MappingEndType, token.SequenceEndType:
			flow = max(0, flow-1)
		case token.DocumentHeaderType, token.DocumentEndType:
			levels, flow = levels[:0], 0
			if documents++; documents > 2 {
				return b.problem(b.tokenPosition(tk), "a second document; hive-builder reads files of one")
			}
		case token.AnchorType, token.TagType:
			if marks++; marks > maxMarks {
				return b.problem(b.tokenPosition(tk), "more than %d anchors and tags", maxMarks)
			}
		case token.SequenceEntryType, token.MappingKeyType, token.MappingValueType:
			if flow > 0 && tk.Type == token.SequenceEntryType {
				return b.problem(b.tokenPosition(tk), "a dash inside brackets")
			}
			if flow > 0 {
				break
			}
			if tk.Type == token.MappingValueType && i > 0 {
				column = tokens[i-1].Position.Column
			}
			for len(levels) > 0 && levels[len(levels)-1].column > column {
				levels = levels[:len(levels)-1]
			}
			if len(levels) == 0 || levels[len(levels)-1].column < column {
				levels = append(levels, level{column: column})
			}
			if tk.Type != token.SequenceEntryType {
				top := &levels[len(levels)-1]
				if top.keys++; top.keys > maxMapKeys {
					return b.problem(b.tokenPosition(tk), "a map of more than %d keys", maxMapKeys)
				}
			}
		}
		if flow+len(levels) > maxDepth {
			return b.problem(b.tokenPosition(tk), "nested more than %d deep", maxDepth)
		}
	}
	return nil
}

func (b *builder) tokenPosition(tk *token.Token) Position {
	if tk == nil || tk.Position == nil {
		return Position{File: b.file, Line: 1, Column: 1}
	}
	pos := Position{File: b.file, Line: max(1, tk.Position.Line), Column: max(1, tk.Position.Column)}
	if tk.Type != token.SingleQuoteType && tk.Type != token.DoubleQuoteType && pos.Line <= len(b.lines) {
		pos.Column = plainColumn(b.lines[pos.Line-1], tk.Value, pos.Column)
	}
	return pos
}

// plainColumn is the column where text begins in line. The lexer puts a plain
// scalar at the end of a line too far right, by the blanks that follow it.
func plainColumn(line, text string, column int) int {
	const longest = 2048 // bytes of a line; what is longer was made by a program
	if len(line) > longest || text == "" {
		return column
	}
	runes := []rune(line)
	if column > len(runes) || strings.HasPrefix(string(runes[column-1:]), text) {
		return column
	}
	trimmed := strings.TrimRight(line, " \t\r")
	if !strings.HasSuffix(trimmed, text) {
		return column
	}
	return utf8.RuneCountInString(trimmed) - utf8.RuneCountInString(text) + 1
}

// position is where a node begins: a map at its first key, a list at its first dash.
func (b *builder) position(n ast.Node) Position {
	if m, ok := n.(*ast.MappingNode); ok && !m.IsFlowStyle && len(m.Values) > 0 {
		return b.position(m.Values[0].Key)
	}
	if mv, ok := n.(*ast.MappingValueNode); ok {
		return b.position(mv.Key)
	}
	return b.tokenPosition(n.GetToken())
}

func (b *builder) faultPosition(err error) Position {
	var p Problem
	var y yaml.Error
	switch {
	case errors.As(err, &p):
		return p.Position()
	case errors.As(err, &y):
		return b.tokenPosition(y.GetToken())
	default:
		return Position{File: b.file, Line: 1, Column: 1}
	}
}

// faultText is the message of a fault alone. The parser's own text would add an
// excerpt of the source, and be slow to make.
func (b *builder) faultText(err error) string {
	var p Problem
	if errors.As(err, &p) {
		return p.Message
	}
	var y yaml.Error
	if !errors.As(err, &y) {
		return err.Error()
	}
	text, line := y.GetMessage(), b.faultPosition(err).Line
	if line <= len(b.lines) && strings.Contains(b.lines[line-1], "{{") {
		text += " (a value that begins with a template must be quoted)"
	}
	return text
}
