package recipe

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
	"go.yaml.in/yaml/v4/plugin/loaderlimits"
)

// Bounds on a document. They leave room for some ten thousand services and keep
// hostile input from costing more than a second or two and some hundred megabytes.
const (
	maxBytes    = 10 << 20
	maxMarks    = 1_600_000 // line ends and YAML's indicators
	maxDepth    = 64
	maxFollowed = 250_000 // nodes, and 64s of bytes, that aliases and merge keys repeat
	maxProblems = 1000
)

// node is a YAML node with its place in the file. Aliases share the node of
// their anchor, so that a tree is a graph without cycles.
type node struct {
	kind      kind
	quoted    bool   // quoted, a block scalar, or tagged as a string
	templated bool   // the text came out of Resolve
	shared    bool   // an alias or a merge key stands for it, too
	unknown   bool   // something about it was wrong, or it must be known and is a template
	text      string // a scalar's text, without quotes
	tag       string // "!vault" or "!unsafe", Ansible's own tags
	pos       Position
	entries   []entry // of a map, in file order, keys unique
	items     []*node // of a list
	size      int     // number of nodes, aliases expanded, and of 64s of bytes in their texts
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

// document is a file that was read as YAML.
type document struct {
	root  *node // nil if the file is empty or not YAML
	lines []string
	texts []Position // where quoted and block scalars begin, in the order of the file
}

// parseTree reads a file's one document. Whatever is wrong with it as YAML goes to c.
func parseTree(file string, src []byte, c *complaints) document {
	src = unify(src)
	b := &builder{file: file, lines: strings.Split(string(src), "\n"), complaints: c, anchored: make(map[*yaml.Node]*node)}
	err := b.checkText(src)
	var body *yaml.Node
	if err == nil {
		body, err = load(src)
	}
	var root *node
	if err == nil && body != nil && !isNothing(body) {
		root, err = b.build(body)
	}
	if err != nil {
		c.add(b.fault(err))
		root = nil
	}
	return document{root: root, lines: b.lines, texts: b.texts}
}

// unify makes one of YAML's three line breaks, as YAML itself does, and drops a
// byte order mark.
func unify(src []byte) []byte {
	src = bytes.TrimPrefix(src, []byte("\ufeff"))
	if bytes.IndexByte(src, '\r') < 0 {
		return src
	}
	src = bytes.ReplaceAll(src, []byte("\r\n"), []byte("\n"))
	return bytes.ReplaceAll(src, []byte("\r"), []byte("\n"))
}

type builder struct {
	file       string
	complaints *complaints
	lines      []string
	anchored   map[*yaml.Node]*node // nil while the anchor's own node is being built
	followed   int                  // what aliases and merge keys repeat, see maxFollowed
	texts      []Position           // of quoted and block scalars
	free       []node
}

func (b *builder) problem(pos Position, format string, args ...any) Problem {
	return Problem{File: b.file, Line: pos.Line, Column: pos.Column, Rule: RuleYAML, Message: fmt.Sprintf(format, args...)}
}

// refuse complains about what is YAML and yet not what hive-builder reads.
func (b *builder) refuse(pos Position, format string, args ...any) {
	p := b.problem(pos, format, args...)
	p.Rule = RuleValue
	b.complaints.add(p)
}

// checkText refuses what is no text of a sane size, before anything parses it.
func (b *builder) checkText(src []byte) error {
	pos := Position{File: b.file, Line: 1, Column: 1}
	if len(src) > maxBytes {
		return b.problem(pos, "the file has more than %d bytes, which is as much as is read", maxBytes)
	}
	marks := 0
	for i := 0; i < len(src); {
		r, size := rune(src[i]), 1
		if r >= utf8.RuneSelf {
			r, size = utf8.DecodeRune(src[i:])
		}
		i += size
		switch {
		case r == utf8.RuneError && size == 1:
			return b.problem(pos, "not YAML: byte 0x%02x is no UTF-8", src[i-1])
		case r < ' ' && r != '\t' && r != '\n', r >= 0x7f && r < 0xa0:
			return b.problem(pos, "not YAML: control character %U", r)
		case r == 0x2028, r == 0x2029:
			return b.problem(pos, "not YAML: %U, which is a line break to some programs and not to others", r)
		}
		if isMark(src, i, r) {
			if marks++; marks > maxMarks {
				return b.problem(pos, "more than %d lines and YAML indicators, which is as much as is read", maxMarks)
			}
		}
		if pos.Column++; r == '\n' {
			pos.Line, pos.Column = pos.Line+1, 1
		}
	}
	return nil
}

// isMark reports whether r, which ends before src[next], may cost the parser a
// token.
func isMark(src []byte, next int, r rune) bool {
	switch r {
	case '\n', ',', '[', ']', '{', '}', '"', '\'', '&', '*', '!', '|', '>', '#', '%':
		return true
	case '-', ':', '?':
		return next == len(src) || bytes.IndexByte([]byte(" \t\n"), src[next]) >= 0
	}
	return false
}

// load gives the body of the one document, nil if there is none.
func load(src []byte) (*yaml.Node, error) {
	loader, err := yaml.NewLoader(bytes.NewReader(src),
		yaml.WithUniqueKeys(false), // build finds duplicate keys, all of them and not only the first
		yaml.WithPlugin(loaderlimits.New(loaderlimits.DepthFunc(checkDepth))))
	if err != nil {
		return nil, fmt.Errorf("preparing to read YAML: %w", err)
	}
	var document, second yaml.Node
	if err := loader.Load(&document); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	if err := loader.Load(&second); err == nil {
		return nil, yaml.NewLoadError(yaml.ComposerStage, "a second document; hive-builder reads files of one",
			yaml.Mark{Line: second.Line, Column: second.Column}, nil)
	} else if !errors.Is(err, io.EOF) {
		return nil, err
	}
	return document.Content[0], nil
}

func checkDepth(depth int, _ *yaml.DepthContext) error {
	if depth > maxDepth {
		return fmt.Errorf("nested more than %d deep", maxDepth)
	}
	return nil
}

// fault makes a Problem of what ended the reading.
func (b *builder) fault(err error) Problem {
	var p Problem
	if errors.As(err, &p) {
		return p
	}
	pos, text := Position{Line: 1, Column: 1}, err.Error()
	var y *yaml.LoadError
	if errors.As(err, &y) {
		mark := y.Mark
		if mark.Line >= len(b.lines) && y.ContextMark.Line > 0 {
			mark = y.ContextMark // something is still open at the end: where it began
		}
		pos.Line, pos.Column = max(1, min(mark.Line, len(b.lines))), max(1, mark.Column)
		if text = y.Message; y.ContextMsg != "" {
			text = y.ContextMsg + ": " + text
		}
	}
	if strings.Contains(b.lines[pos.Line-1], "{{") {
		text += " (a value that begins with a template must be quoted)"
	}
	return b.problem(pos, "not YAML: %s", text)
}
