package recipe

import (
	"strings"
	"testing"
)

// misplacedNodes gives the nodes whose position is not where their text begins.
func misplacedNodes(src string, root *node) []*node {
	lines := strings.Split(strings.TrimPrefix(src, "\ufeff"), "\n")
	var out []*node
	seen := make(map[*node]bool)
	var walk func(n *node)
	walk = func(n *node) {
		if seen[n] {
			return
		}
		seen[n] = true
		if !begins(lines, n) {
			out = append(out, n)
		}
		for _, item := range n.items {
			walk(item)
		}
		for _, e := range n.entries {
			walk(e.key)
			walk(e.value)
		}
	}
	walk(root)
	return out
}

func begins(lines []string, n *node) bool {
	if n.pos.Line < 1 || n.pos.Line > len(lines) {
		return false
	}
	line := []rune(lines[n.pos.Line-1])
	if n.pos.Column < 1 || n.pos.Column > len(line) {
		return false
	}
	here := string(line[n.pos.Column-1:])
	switch {
	case n.kind == kindMap || n.kind == kindList || n.kind == kindNull || n.tag != "":
		return strings.TrimSpace(here) != ""
	case n.quoted:
		return strings.ContainsAny(here[:1], `"'|>!&`)
	default:
		first, _, _ := strings.Cut(strings.TrimSpace(n.text), " ")
		return strings.HasPrefix(here, first)
	}
}

func TestTreePositions(t *testing.T) {
	for _, src := range []string{
		"a: b\n", "a: 'b'\nc: \"d\"\n", "- a\n-   b\n-\n  - c\n  - d: e\n    f: g\n",
		"a: {b: c, \"d\": [e, 'f', g], h: }\n", "a:    b   \nc  :  d\n", "a: |\n  x\n\n  y\nb: >\n  x\n  y\nc: d\n",
		"a: b\n   c\n   d\ne: f\n", "a: \"b\n   c\"\ne: f\n", "日本: 語\n東京: [都, \"道\"]\n", "a: b # c\n# d\n\n#e\nf: g\n",
		"a: b\r\nc: 'd'\r\ne:\r\n- f\r\n- g\r\n", "\ufeffa: b\nc: d\n", "a: &x b\nc: *x\nd: &y\n  e: f\n", "? a\n: b\n",
		"---\na: b\n...\n", "%YAML 1.1\n---\na: b\n", "a: !!str 5\nb: !vault |\n  1\n", "a:\n- b\n- c: d\n  e: f\ng: h\n",
		"a: [b,\n  c,\n  d: e]\nf: {\n  g: h,\n  i: j\n}\nk: l\n", "a: -1\nb: .5\nc: 1e3\nd: 0x1F\ne: 1_000\nf: ~\ng: null\n",
		"a: b: c\n", "a: bb bb   \n", "a: bb bb   \n   c\nd: e\n", "a: b   # c\nd: e  \n", "a: [b  , c   ]   \nd: 'e'   \n", "bb: bb \t\n",
		"- bb bb   \n- c  \n", "a  : b   \nc: d\n", "a:   \n  b:   \n    c   \n", "a: 5   \nb: true  \n", "a: b   \r\nc: d  \r\n", "a: b   ",
		"a: {b: c   }\nd: {e: f   , g  : h}\n", "日: 本   \n月: \"火\"   \n", "a: 'it''s'\nb: \"\\u00e9 \\\" x\"\nc: d\n", "a: \"\"\nb: ''\nc: d\n",
	} {
		c := &complaints{}
		root := parseTree("f", []byte(src), c).root
		if root == nil {
			if src != "a: b: c\n" {
				t.Errorf("%q: %v", src, c.list)
			}
			continue
		}
		for _, n := range misplacedNodes(src, root) {
			t.Errorf("%q: %s %q at %d:%d", src, n.kind, n.text, n.pos.Line, n.pos.Column)
		}
	}
}
