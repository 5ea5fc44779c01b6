package recipe_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/hiveproof/hiveproof/scenarios/recipe"
)

func parse(t *testing.T, src string) *recipe.Recipe {
	t.Helper()
	r, err := recipe.Parse("services.yml", []byte(src))
	if err != nil {
		t.Fatalf("%v\nof\n%s", err, src)
	}
	return r
}

func TestDefaults(t *testing.T) {
	r := parse(t, head+"    volumes:\n    - {source: data, target: /data}\n    ports: ['80:80']\n")
	s := r.Service("web")
	if s.Mode != recipe.ModeReplicated || s.Replicas != 1 || s.EndpointMode != recipe.EndpointVIP || s.Standalone {
		t.Errorf("mode %s, %d replicas, endpoint_mode %s, standalone %v", s.Mode, s.Replicas, s.EndpointMode, s.Standalone)
	}
	if len(s.Networks) != 1 || s.Networks[0].Name != "hive_default_network" || s.Networks[0].Position.IsValid() {
		t.Errorf("networks %+v", s.Networks)
	}
	if len(r.Networks) != 1 || r.Networks[0].Name != "hive_default_network" || r.Networks[0].Driver != "overlay" {
		t.Errorf("the file's networks %+v", r.Networks[0])
	}
	if !slices.Equal(s.AvailableOn, []string{"private", "staging", "production"}) {
		t.Errorf("available_on %v", s.AvailableOn)
	}
	if v := s.Volumes[0]; v.Type != recipe.TypeVolume || v.ReadOnly {
		t.Errorf("volume %+v", v)
	}
	if p := s.Ports[0]; p.Protocol != recipe.TCP || p.Mode != recipe.Ingress || p.Assigned {
		t.Errorf("port %+v", p)
	}
	if s := parse(t, head+"    replicas: -1\n").Service("web"); s.Replicas != 1 || !s.Has("replicas") {
		t.Errorf("replicas -1 is %d", s.Replicas)
	}
	if s := parse(t, "available_on: [staging]\n"+head).Service("web"); !slices.Equal(s.AvailableOn, []string{"staging"}) {
		t.Errorf("available_on of the file: %v", s.AvailableOn)
	}
	if s := r.Service("none"); s != nil {
		t.Errorf("a service %v", s)
	}
}

func TestPositions(t *testing.T) {
	r := parse(t, head+`    mode: global
    ports:
    - target_port: 80
      mode: host
    - "53:53"
    volumes:
    - source: data
      target: /data
    environment:
      A: x
`)
	s := r.Service("web")
	for what, got := range map[string]recipe.Position{
		"services.yml:3:3":  s.Position,
		"services.yml:4:12": s.Image.Position,
		"services.yml:5:5":  s.At("mode"),
		"services.yml:5:11": s.ValueAt("mode"),
		"services.yml:6:5":  s.At("ports"),
		"services.yml:7:7":  s.Ports[0].Position,
		"services.yml:8:7":  s.Ports[0].At("mode"),
		"services.yml:9:7":  s.Ports[1].Position,
		"services.yml:11:7": s.Volumes[0].Position,
		"services.yml:12:7": s.Volumes[0].At("target"),
		"services.yml:14:7": s.Environment[0].Position,
		"-":                 recipe.Position{},
	} {
		if got.String() != what {
			t.Errorf("%s, want %s", got, what)
		}
	}
	// What is not written is where the thing itself is.
	for _, pair := range [][2]recipe.Position{
		{s.At("replicas"), s.Position}, {s.ValueAt("replicas"), s.Position},
		{s.Ports[1].At("mode"), s.Ports[1].Position}, {s.Volumes[0].At("type"), s.Volumes[0].Position},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s, want %s", pair[0], pair[1])
		}
	}
	if s.Has("replicas") || !s.Has("mode") || s.Volumes[0].Has("type") {
		t.Error("Has tells wrong")
	}
}

func TestPorts(t *testing.T) {
	r := parse(t, `plugin: hive_services
services:
  a:
    image: x
    ports: ["80", "8080:81", "53:53/udp", "53/tcp", 8081:82]
  a1:
    image: x
    ports:
    - {target_port: 80}
    - {target_port: 80, protocol: udp}
    - {target_port: 80, protocol: udp, mode: host}
    - {target_port: 0x51, published_port: "61003"}
  b:
    image: x
    ports: ["180"]
`)
	type port struct {
		target, published uint16
		protocol          recipe.Protocol
		mode              recipe.PortMode
		assigned          bool
	}
	want := map[string][]port{
		"a": {
			{80, 61001, recipe.TCP, recipe.Ingress, true},
			{81, 8080, recipe.TCP, recipe.Ingress, false},
			{53, 53, recipe.UDP, recipe.Ingress, false},
			{53, 53, recipe.TCP, recipe.Ingress, true}, // the target's number, for the other protocol
			{82, 8081, recipe.TCP, recipe.Ingress, false},
		},
		"a1": {
			{80, 61002, recipe.TCP, recipe.Ingress, true},
			{80, 61002, recipe.UDP, recipe.Ingress, true},
			{80, 61004, recipe.UDP, recipe.Host, true}, // 61003 is asked for below
			{81, 61003, recipe.TCP, recipe.Ingress, false},
		},
		"b": {{180, 61005, recipe.TCP, recipe.Ingress, true}},
	}
	for name, ports := range want {
		var got []port
		for _, p := range r.Service(name).Ports {
			got = append(got, port{p.Target, p.Published, p.Protocol, p.Mode, p.Assigned})
		}
		if !slices.Equal(got, ports) {
			t.Errorf("%s: %v, want %v", name, got, ports)
		}
	}
}

func TestPortsRunOut(t *testing.T) {
	var b strings.Builder
	b.WriteString("plugin: hive_services\nservices:\n")
	for i := range 2 {
		fmt.Fprintf(&b, "  s%d:\n    image: a\n    ports: [", i)
		for port := range 2500 {
			fmt.Fprintf(&b, "'%d', ", port+1)
		}
		b.WriteString("]\n")
	}
	_, err := recipe.Parse("f", []byte(b.String()))
	var problems recipe.Problems
	if !errors.As(err, &problems) || !strings.Contains(problems[0].Message, "no number is left for this port between 61001 and 65534") {
		t.Fatalf("%.300v", err)
	}
}

func TestCommands(t *testing.T) {
	tests := []struct {
		keys                string
		command, entrypoint []string
	}{
		{"command: a b", []string{"a b"}, nil}, // Ansible splits a string at commas only
		{"command: --x=1,--y", []string{"--x=1", "--y"}, nil},
		{"command: [a, 1, '']", []string{"a", "1", ""}, nil},
		{"command: \"{{ a | default('x,y') }}\"", []string{"{{ a | default('x,y') }}"}, nil},
		{"entrypoint: a b", nil, []string{"a", "b"}},
		{`entrypoint: sh  -c 'a "b" \c' "d \" \e" f\ g ''`, nil, []string{"sh", "-c", `a "b" \c`, `d " \e`, "f g", ""}},
		{"entrypoint: '{{ a }} {{ b }}'", nil, []string{"{{ a }} {{ b }}"}},
		{"entrypoint: []", nil, []string{}},
	}
	for _, tt := range tests {
		s := parse(t, head+"    "+tt.keys+"\n").Service("web")
		if !slices.Equal(s.Command, tt.command) || !slices.Equal(s.Entrypoint, tt.entrypoint) {
			t.Errorf("%s: command %q, entrypoint %q", tt.keys, s.Command, s.Entrypoint)
		}
	}
}

func TestEnvironmentList(t *testing.T) {
	s := parse(t, head+"    environment: [A=x, 'B=y=z', C=]\n").Service("web")
	if want := map[string]string{"A": "x", "B": "y=z", "C": ""}; !reflect.DeepEqual(s.Environment.Map(), want) {
		t.Errorf("environment %v", s.Environment)
	}
	if v, ok := s.Environment.Get("B"); v != "y=z" || !ok {
		t.Errorf("B is %q, %v", v, ok)
	}
	if _, ok := s.Environment.Get("D"); ok {
		t.Error("D is there")
	}
}

func TestResolve(t *testing.T) {
	r := parse(t, head+`    replicas: "{{ count }}"
    mode: "{{kind}}"
    environment:
      A: "{{a}}-{{ a }}-{{- a -}}-{{missing}}"
      B: "{{ a | upper }}"
      C: !unsafe "{{a}}"
      D: !vault |
        $ANSIBLE_VAULT;1.1;AES256
    labels: &l {x: "{{ a }}"}
    ports: ["{{ port }}:53", {target_port: "{{port}}", protocol: udp}]
    command: "{{ args }}"
  other:
    image: "{{ registry }}/x"
    labels: *l
`)
	s := r.Service("web")
	if a, _ := s.Environment.Get("A"); a != "{{a}}-{{ a }}-{{- a -}}-{{missing}}" {
		t.Errorf("A is %q before", a)
	}
	needed := 0
	for _, u := range r.Unresolved() {
		if u.Needed {
			needed++
		}
	}
	if needed != 4 { // replicas, mode and two ports
		t.Errorf("%d values needed, want 4: %v", needed, r.Unresolved())
	}

	vars := map[string]string{"count": "3", "kind": "replicated", "a": "{{count}}", "port": "5300", "args": "-x,-y"}
	left, err := r.Resolve(vars)
	if err != nil {
		t.Fatal(err)
	}
	if s != r.Service("web") {
		t.Error("the service is another one")
	}
	got := s.Environment.Map()
	want := map[string]string{"A": "{{count}}-{{count}}-{{count}}-{{missing}}", "B": "{{ a | upper }}", "C": "{{a}}", "D": "$ANSIBLE_VAULT;1.1;AES256\n"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("environment %q, want %q", got, want)
	}
	if s.Replicas != 3 || s.Ports[0].Published != 5300 || s.Ports[1].Target != 5300 || !slices.Equal(s.Command, []string{"-x", "-y"}) {
		t.Errorf("%d replicas, ports %+v %+v, command %v", s.Replicas, s.Ports[0], s.Ports[1], s.Command)
	}
	if x, _ := r.Service("other").Labels.Get("x"); x != "{{count}}" {
		t.Errorf("the alias's label is %q", x)
	}
	var texts []string
	for _, u := range left {
		if u.Needed {
			t.Errorf("%v is still needed", u)
		}
		texts = append(texts, u.Position.String()+" "+u.Service+" "+u.Text)
	}
	wantLeft := []string{
		"services.yml:8:10 web {{count}}-{{count}}-{{count}}-{{missing}}",
		"services.yml:9:10 web {{ a | upper }}",
		"services.yml:11:10 web !vault",
		"services.yml:13:20 web {{count}}",
		"services.yml:17:12 other {{ registry }}/x",
	}
	if !slices.Equal(texts, wantLeft) {
		t.Errorf("left\n%s\nwant\n%s", strings.Join(texts, "\n"), strings.Join(wantLeft, "\n"))
	}
}

func TestResolveFindsProblems(t *testing.T) {
	r := parse(t, head+"    replicas: '{{ n }}'\n    standalone: '{{ b }}'\n    ports: ['{{ p }}']\n    user: '{{ b }}'\n")
	_, err := r.Resolve(map[string]string{"n": "many", "b": "maybe", "p": "http"})
	var problems recipe.Problems
	if !errors.As(err, &problems) || len(problems) != 3 || problems[0].Error() != `services.yml:5:15: replicas must be a whole number, not "many"` {
		t.Fatalf("%v", err)
	}
	s := r.Service("web")
	if s.User != "{{ b }}" || s.Replicas != 1 {
		t.Errorf("the recipe changed: %+v", s)
	}
	if left, err := r.Resolve(map[string]string{"n": "2", "b": "yes", "p": "80"}); err != nil || len(left) != 0 {
		t.Fatalf("left %v, %v", left, err)
	}
	if s.Replicas != 2 || !s.Standalone || s.Ports[0].Published != 61001 || s.User != "yes" {
		t.Errorf("%d replicas, standalone %v, port %+v", s.Replicas, s.Standalone, s.Ports[0])
	}
}

func TestClassify(t *testing.T) {
	const (
		drbd   = "{source: d, target: /d, drbd: {fstype: xfs, size: 1G}}"
		nfs    = "{source: n, target: /n, nfs: {}}"
		share  = "{source: s, target: /s, driver: local, driver_opts: {type: nfs, device: ':/x', o: addr=x}}"
		plugin = "{source: p, target: /p, driver: rexray}"
		disk   = "{source: k, target: /k, driver: local, driver_opts: {device: /dev/sda2, type: ext4}}"
		bind   = "{source: /b, target: /b, type: bind}"
		plain  = "{source: v, target: /v, type: volume}"
		tmpfs  = "{source: '', target: /t, type: tmpfs}"
	)
	axes := func(b recipe.Balance, v recipe.VolumePattern, p recipe.Publish) recipe.Axes {
		return recipe.Axes{Balance: b, Volume: v, Publish: p}
	}
	tests := []struct {
		keys  string
		hosts int
		want  recipe.Axes
	}{
		// Balance.
		{"user: a", 3, axes(recipe.Singleton, recipe.Stateless, recipe.Internal)},
		{"replicas: 1", 3, axes(recipe.Singleton, recipe.Stateless, recipe.Internal)},
		{"replicas: 2", 3, axes(recipe.Scalable, recipe.Stateless, recipe.Internal)},
		{"mode: global", 3, axes(recipe.Global, recipe.Stateless, recipe.Internal)},
		{"mode: global\nreplicas: 2", 3, axes(recipe.Global, recipe.Stateless, recipe.Internal)},
		// Volume.
		{"volumes: []", 3, axes(recipe.Singleton, recipe.Stateless, recipe.Internal)},
		{"volumes: [" + tmpfs + "]", 3, axes(recipe.Singleton, recipe.Stateless, recipe.Internal)},
		{"volumes: [" + drbd + "]", 3, axes(recipe.Singleton, recipe.ServiceVolume, recipe.Internal)},
		{"volumes: [" + nfs + "]", 3, axes(recipe.Singleton, recipe.ServiceVolume, recipe.Internal)},
		{"volumes: [" + share + "]", 3, axes(recipe.Singleton, recipe.ServiceVolume, recipe.Internal)},
		{"volumes: [" + disk + "]", 3, axes(recipe.Singleton, recipe.ServiceVolume, recipe.Internal)},
		{"volumes: [" + bind + "]", 3, axes(recipe.Singleton, recipe.HostVolume, recipe.Internal)},
		{"volumes: [" + plain + "]", 0, axes(recipe.Singleton, recipe.HostVolume, recipe.Internal)},
		{"volumes: [" + bind + "]", 1, axes(recipe.Singleton, recipe.ServiceVolume, recipe.Internal)},
		{"volumes: [" + plain + "]", 1, axes(recipe.Singleton, recipe.ServiceVolume, recipe.Internal)},
		{"mode: global\nvolumes: [" + plain + "]", 1, axes(recipe.Global, recipe.HostVolume, recipe.Internal)},
		{"mode: global\nvolumes: [" + bind + "]", 3, axes(recipe.Global, recipe.HostVolume, recipe.Internal)},
		{"mode: global\nvolumes: [" + nfs + "]", 3, axes(recipe.Global, recipe.SharedVolume, recipe.Internal)},
		{"replicas: 2\nvolumes: [" + share + "]", 3, axes(recipe.Scalable, recipe.SharedVolume, recipe.Internal)},
		{"replicas: 2\nvolumes: [" + plugin + "]", 3, axes(recipe.Scalable, recipe.SharedVolume, recipe.Internal)},
		{"mode: global\nvolumes: [" + disk + "]", 3, axes(recipe.Global, recipe.HostVolume, recipe.Internal)},
		{"replicas: 2\nvolumes: [" + drbd + "]", 3, axes(recipe.Scalable, recipe.ServiceVolume, recipe.Internal)},
		{"volumes: [" + bind + ", " + drbd + ", " + tmpfs + "]", 3, axes(recipe.Singleton, recipe.ServiceVolume, recipe.Internal)},
		{"mode: global\nvolumes: [" + bind + ", " + nfs + "]", 3, axes(recipe.Global, recipe.SharedVolume, recipe.Internal)},
		// Publish.
		{"ports: ['80']", 3, axes(recipe.Singleton, recipe.Stateless, recipe.Mesh)},
		{"replicas: 2\nports: [{target_port: 80, mode: ingress}]", 3, axes(recipe.Scalable, recipe.Stateless, recipe.Mesh)},
		{"mode: global\nports: ['80']", 3, axes(recipe.Global, recipe.Stateless, recipe.Mesh)},
		{"mode: global\nports: [{target_port: 80, mode: host}]", 3, axes(recipe.Global, recipe.Stateless, recipe.OneToOne)},
		{"ports: [{target_port: 80, mode: host}]", 3, axes(recipe.Singleton, recipe.Stateless, recipe.VirtualIP)},
		{"ports: [{target_port: 80, mode: host}, '81']", 3, axes(recipe.Singleton, recipe.Stateless, recipe.Mesh)},
	}
	for _, tt := range tests {
		s := parse(t, in(tt.keys)).Service("web")
		if got := recipe.Classify(s, tt.hosts); got != tt.want {
			t.Errorf("%s on %d hosts: %v, want %v", tt.keys, tt.hosts, got, tt.want)
		}
	}
}

func TestParseFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "services.yml")
	if _, err := recipe.ParseFile(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if err := os.WriteFile(path, []byte(head+"    mode: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := recipe.ParseFile(path)
	var problem recipe.Problem
	if !errors.As(err, &problem) || problem.File != path || problem.Line != 5 || problem.Column != 11 || problem.Service != "web" {
		t.Errorf("%#v of %v", problem, err)
	}
}

func TestTagMapping(t *testing.T) {
	m, err := recipe.ParseTagMapping("tag-mapping.json", []byte(`{"mariadb:10.5": "mariadb:10.5.12", "a/b:latest": "a/b@sha256:00"}`))
	if err != nil {
		t.Fatal(err)
	}
	for tag, want := range map[string]string{"mariadb:10.5": "mariadb:10.5.12", "a/b:latest": "a/b@sha256:00", "a/b": "", "": ""} {
		got, ok := m.Apply(tag)
		if ok != (want != "") || ok && got != want || !ok && got != tag {
			t.Errorf("%q is mapped to %q, %v", tag, got, ok)
		}
	}
	if got, ok := recipe.TagMapping(nil).Apply("x"); got != "x" || ok {
		t.Errorf("nil mapping: %q, %v", got, ok)
	}
	if m, err := recipe.ParseTagMapping("f", []byte(" {} \n")); err != nil || m == nil || len(m) != 0 {
		t.Errorf("empty mapping: %v, %v", m, err)
	}
	tests := []struct{ src, want string }{
		{"", "f:1:1: not JSON: the file ends too early"},
		{"[]", "f:1:1: a tag mapping must be a JSON object"},
		{"{\n  \"a\": \"b\",\n  \"c\": 5\n}", `f:3:8: the tag to use for "c" must be a string`},
		{`{"a": {"b": "c"}}`, `f:1:7: the tag to use for "a" must be a string`},
		{`{"a": ""}`, `f:1:7: the tag to use for "a" must be a string`},
		{`{"": "a"}`, "f:1:2: an empty tag cannot be mapped"},
		{`{"a": "b", "a": "c"}`, `f:1:12: tag "a" is mapped twice`},
		{"{\"a\": \"b\"\n", "f:2:1: not JSON: the file ends too early"},
		{"{\n\"a\" \"b\"}", "f:2:5: not JSON: "},
		{"{\"日本\": x}", "f:1:8: not JSON: "},
		{`{a: "b"}`, "f:1:2: not JSON: "},
		{`{5: "b"}`, "f:1:2: not JSON: "},
		{"{} \n {}", "f:2:2: not JSON: more text after the object"},
		{`{"a": "b",}`, "f:1:11: not JSON: "},
		{strings.Repeat(" ", 10<<20+1), "f:1:1: the file has more than 10485760 bytes"},
	}
	for _, tt := range tests {
		m, err := recipe.ParseTagMapping("f", []byte(tt.src))
		if err == nil || !strings.HasPrefix(err.Error(), tt.want) || m != nil {
			t.Errorf("%.40q: %v, want %s", tt.src, err, tt.want)
		}
	}
	if _, err := recipe.ParseTagMappingFile(filepath.Join(t.TempDir(), "none.json")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}
