package lint_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/hiveproof/hiveproof/scenarios/recipe/lint"
)

// What comments silence, and what is said about those that do not. § stands before
// each comment that is complained about.
func TestIgnore(t *testing.T) {
	production := lint.Options{Hosts: 3, Stage: "production"}
	tests := []struct {
		name    string
		opts    lint.Options
		src     string
		left    []string
		ignored []string // rule, line, reason
		bad     []string // part of each message
	}{
		{"on the line", three, one("endpoint_mode: vip # hiveproof:ignore HP205 why not"), nil, []string{"HP205 5 why not"}, nil},
		{"other line", three, one("endpoint_mode: vip", "user: a §# hiveproof:ignore HP205 why not"), []string{"a HP205 web 5:20"}, nil, []string{"ignores nothing"}},
		{"other rule", three, one("endpoint_mode: vip §# hiveproof:ignore HP204 why not"), []string{"a HP205 web 5:20"}, nil, []string{"there is no HP204 here"}},
		{"above the line", three, one("# hiveproof:ignore HP205 why not", "", "# more", "endpoint_mode: vip"), nil, []string{"HP205 8 why not"}, nil},
		{"on the service", three, head + "  web: # hiveproof:ignore HP204 legacy\n    image: nginx\n    mode: global\n    endpoint_mode: vip\n    " + port(80, "host") + "\n", nil, []string{"HP204 6 legacy"}, nil},
		{"above the service", three, head + "  # hiveproof:ignore HP007 legacy\n  # a web server\n" + service("web", dnsrr, global, volumes("{source: /a, target: /a}", "{source: /b, target: /b}")) +
			service("api", dnsrr, global, volumes("{source: /a, target: /a}")), []string{"a HP007 api 14:15"}, []string{"HP007 9 legacy", "HP007 9 legacy"}, nil},
		{"two above one line", three, head + "  # hiveproof:ignore HP205 one\n  # hiveproof:ignore HP007 two\n" + service("web", global, volumes("{source: /a, target: /a}")), nil, []string{"HP205 5 one", "HP007 8 two"}, nil},
		{"two rules", three, one("endpoint_mode: vip", "replicas: 2", "volumes:", "# hiveproof:ignore HP007,HP102 both", "- {source: /a, target: /a}"), []string{"a HP205 web 5:20"}, []string{"HP007 9 both", "HP102 9 both"}, nil},
		{"a parser's rule", three, one(dnsrr, "replica: 2 # hiveproof:ignore HP002 soon"), nil, []string{"HP002 6 soon"}, nil},
		{"after the last line", three, one(dnsrr) + "§# hiveproof:ignore HP205 x\n", nil, nil, []string{"ignores nothing"}},

		{"no reason", three, one("endpoint_mode: vip §# hiveproof:ignore HP205"), []string{"a HP205 web 5:20"}, nil, []string{"has no reason"}},
		{"unknown rule", three, one("endpoint_mode: vip §# hiveproof:ignore HP999 why"), []string{"a HP205 web 5:20"}, nil, []string{`"HP999" is no rule`}},
		{"unknown beside known", three, one("endpoint_mode: vip §# hiveproof:ignore HP205,hp204 why"), nil, []string{"HP205 5 why"}, []string{`"hp204" is no rule`}},
		{"no rule", three, one("endpoint_mode: vip §# hiveproof:ignore"), []string{"a HP205 web 5:20"}, nil, []string{"names no rule"}},
		{"other word", three, one("endpoint_mode: vip §# hiveproof:disable HP205 why"), []string{"a HP205 web 5:20"}, nil, []string{"hiveproof:disable is not known"}},
		{"no comment", three, one("endpoint_mode: vip", "user: 'a # hiveproof:ignore HP205 x'"), []string{"a HP205 web 5:20"}, nil, nil},

		{"other stage", production, one("available_on: [private]", "endpoint_mode: vip # hiveproof:ignore HP205 x"), nil, nil, nil},
		{"this stage", production, one("available_on: [production]", dnsrr+" §# hiveproof:ignore HP205 x"), nil, nil, []string{"ignores nothing"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			src, places := marked(tt.src)
			r := lintTexts(tt.opts, src)
			f := r.Files[0]
			var ignored, bad []string
			for _, i := range f.Ignored {
				ignored = append(ignored, fmt.Sprintf("%s %d %s", i.Rule, i.Line, i.Reason))
				if !strings.HasPrefix(string([]rune(strings.Split(src, "\n")[i.Comment.Line-1])[i.Comment.Column-1:]), "# hiveproof:ignore ") {
					t.Errorf("no comment at %+v", i.Comment)
				}
			}
			for _, n := range f.BadIgnores {
				bad = append(bad, fmt.Sprintf("%d:%d", n.Line, n.Column))
			}
			if got := found(r); !slices.Equal(got, tt.left) || !slices.Equal(ignored, tt.ignored) || !slices.Equal(bad, places) {
				t.Errorf("left %q, ignored %q, bad ones at %q (want %q): %+v\n%s", got, ignored, bad, places, f.BadIgnores, src)
			}
			for i, want := range tt.bad {
				if i >= len(f.BadIgnores) || !strings.Contains(f.BadIgnores[i].Message, want) {
					t.Errorf("%+v, want %q", f.BadIgnores, want)
				}
			}
			if len(tt.left)+len(tt.bad) == 0 && r.Failed(true) || len(tt.bad) > 0 && !r.Failed(true) {
				t.Error("strict is wrong about it")
			}
		})
	}
}

// A template without a value yields no finding and is listed; with one, it is
// checked.
func TestUnresolved(t *testing.T) {
	src := one(dnsrr, "mode: '{{ mode }}'", "user: '{{ user }}'", volumes(bind))
	r := lintTexts(three, src)
	if f := r.Files[0]; len(f.Findings) > 0 || len(f.Unresolved) != 1 || f.Unresolved[0].Line != 6 || f.Unresolved[0].Column != 11 || f.Unresolved[0].Service != "web" {
		t.Errorf("%+v", f)
	}
	if want := (lint.Axes{Name: "web", Balance: lint.Unknown, Volume: "host", Publish: "internal"}); r.Files[0].Services[0] != want {
		t.Errorf("%+v", r.Files[0].Services[0])
	}
	if r.Failed(false) || !r.Failed(true) {
		t.Error("what could not be checked counts only if strict")
	}
	known := lintTexts(lint.Options{Hosts: 3, Vars: map[string]string{"mode": "replicated"}}, src)
	expect(t, known, "a HP102 web 8:46")
	if len(known.Files[0].Unresolved) > 0 {
		t.Errorf("%+v", known.Files[0].Unresolved)
	}
	expect(t, lintTexts(lint.Options{Hosts: 3, Vars: map[string]string{"mode": "several"}}, src), "a HP003 web 6:11")
	// A mistake elsewhere does not keep the variables out.
	expect(t, lintTexts(lint.Options{Hosts: 3, Vars: map[string]string{"mode": "global"}}, src+"    nonsense: 1\n"), "a HP002 web 9:5")
}

// Axes that hang on what is not known.
func TestAxes(t *testing.T) {
	for src, want := range map[string]lint.Axes{
		one(dnsrr, "replicas: 2", volumes(nfs)):                {Name: "web", Balance: "scalable", Volume: "shared", Publish: "internal"},
		one(dnsrr, "replicas: '{{ n }}'", volumes(nfs)):        {Name: "web", Balance: lint.Unknown, Volume: lint.Unknown, Publish: "internal"},
		one("mode: '{{ m }}'", port(80, "host")):               {Name: "web", Balance: lint.Unknown, Volume: "stateless", Publish: lint.Unknown},
		one("mode: '{{ m }}'", volumes(drbd), port(80, "bad")): {Name: "web", Balance: lint.Unknown, Volume: "service", Publish: lint.Unknown},
		one(global, "volumes: [a:/a]", port(80, "host")):       {Name: "web", Balance: "global", Volume: lint.Unknown, Publish: "one-to-one"},
		one(volumes(bind)): {Name: "web", Balance: "singleton", Volume: "host", Publish: "internal"},
	} {
		if got := lintTexts(three, src).Files[0].Services; len(got) != 1 || got[0] != want {
			t.Errorf("%+v, want %+v of\n%s", got, want, src)
		}
	}
}
