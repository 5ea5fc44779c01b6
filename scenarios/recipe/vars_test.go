package recipe_test

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hiveproof/hiveproof/scenarios/recipe"
)

func TestParseVars(t *testing.T) {
	vars, err := recipe.ParseVars("vars.yml", []byte(`---
# of the site
db_password: "se\"cret"
count: 010
colons: 1:30
flag: yes
quoted: "no"
nothing:
size: 1_000.5
day: 2024-01-02
text: |
  two
  lines
other: "{{ db_password }}"
raw: !unsafe "{{ x }}"
vault: !vault |
  $ANSIBLE_VAULT;1.1;AES256
map: {a: b}
list: [a]
`))
	want := map[string]string{"db_password": `se"cret`, "count": "8", "colons": "90", "flag": "True", "quoted": "no", "nothing": "", "size": "1000.5",
		"day": "2024-01-02", "text": "two\nlines\n", "other": "{{ db_password }}", "raw": "{{ x }}"}
	if err != nil || !maps.Equal(vars, want) {
		t.Errorf("%q, %v, want %q", vars, err, want)
	}
	for _, src := range []string{"", "---\n", "# nothing\n", "{}"} {
		if vars, err := recipe.ParseVars("f", []byte(src)); err != nil || len(vars) != 0 {
			t.Errorf("%q: %v, %v", src, vars, err)
		}
	}
	for src, want := range map[string]string{
		"- a\n":           "f:1:1: variables must be a map of names to values, not a list",
		"a: b\n c: d\n":   "f:2:3: not YAML: ",
		"a: b\n\na: c\n":  `f:3:1: key "a" is given twice, first in line 1`,
		"a: b\non: c\n":   `f:2:1: key "on" is a boolean to YAML: quote it`,
		"a: &a {b: *a}\n": "f:1:11: anchor &a holds an alias of itself",
		"a: {{ b }}\n":    "f:1:5: a map is no key (a value that begins with a template must be quoted)",
	} {
		vars, err := recipe.ParseVars("f", []byte(src))
		if vars != nil || err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, %v, want %s", src, vars, err, want)
		}
	}
}

func TestParseVarsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vars.yml")
	if _, err := recipe.ParseVarsFile(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if err := os.WriteFile(path, []byte("a: 1"), 0o600); err != nil {
		t.Fatal(err)
	}
	if vars, err := recipe.ParseVarsFile(path); err != nil || vars["a"] != "1" {
		t.Errorf("%v, %v", vars, err)
	}
}

func TestResolvePartial(t *testing.T) {
	r, before := recipe.ParsePartial("f", []byte(`plugin: hive_services
services:
  web:
    image: nginx
    user: a
    user: b
    replica: 2
    replicas: "{{ n }}"
    mode: "{{ m }}"
  db:
    image: mariadb
    standalone: "{{ s }}"
`))
	web := r.Service("web")
	if len(before) != 2 || web.Known("replicas") {
		t.Fatalf("%v, replicas known %v", before, web.Known("replicas"))
	}
	after := r.ResolvePartial(map[string]string{"n": "2", "m": "globl", "s": "True"})
	want := `f:6:5: key "user" is given twice, first in line 5
f:7:5: unknown key "replica" in a service: did you mean "replicas"?
f:9:11: mode must be replicated or global, not "globl": did you mean "global"?`
	if after.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", after, want)
	}
	if web != r.Service("web") || web.Replicas != 2 || !web.Known("replicas") || web.Known("mode") || !r.Service("db").Standalone {
		t.Errorf("%+v", web)
	}
	if line := r.Line(7); line != "    replica: 2" || r.Line(0) != "" || r.Line(99) != "" {
		t.Errorf("line 7 is %q", line)
	}
	r, before = recipe.ParsePartial("f", []byte("a: b: c\n"))
	if after := r.ResolvePartial(map[string]string{"n": "2"}); len(before) != 1 || after.Error() != before.Error() {
		t.Errorf("%v, %v", before, after)
	}
}

// What variables add is bounded.
func TestResolveIsBounded(t *testing.T) {
	r := parse(t, head+"    environment: {A: '"+strings.Repeat("{{ a }}", 10_000)+"'}\n")
	left, err := r.Resolve(map[string]string{"a": strings.Repeat("x", 1<<20)})
	if err != nil || len(left) != 1 {
		t.Fatalf("%d left, %v", len(left), err)
	}
	if a := r.Services[0].Environment[0].Value; len(a) > 21<<20 {
		t.Errorf("%d bytes", len(a))
	}
}
