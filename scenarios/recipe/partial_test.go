package recipe_test

import (
	"testing"

	"github.com/hiveproof/hiveproof/scenarios/recipe"
)

// Each problem says which lint rule it breaks, and the rest of the file is read.
func TestParsePartial(t *testing.T) {
	const volume = "volumes:\n- {source: a, target: /a, "
	tests := []struct{ name, src, rule string }{
		{"broken indentation", in("mode: global") + "   x: y\n", recipe.RuleYAML},
		{"no UTF-8", "a: \xff", recipe.RuleYAML},
		{"two documents", in("user: a") + "---\na: b\n", recipe.RuleYAML},
		{"key twice", in("user: a\nuser: b"), recipe.RuleYAML},
		{"unknown service key", in("replica: 2"), recipe.RuleKey},
		{"unknown key on top", in("user: a") + "ports: []\n", recipe.RuleKey},
		{"unknown port key", in("ports: [{target_port: 80, publish_port: 80}]"), recipe.RuleKey},
		{"mode", in("mode: globl"), recipe.RuleValue},
		{"port number", in("ports: [80]"), recipe.RuleValue},
		{"fstype", in(volume + "drbd: {fstype: zfs, size: 1G}}"), recipe.RuleValue},
		{"drbd without size", in(volume + "drbd: {fstype: xfs}}"), recipe.RuleValue},
		{"number as key", in("environment: {1: x}"), recipe.RuleValue},
		{"unknown tag", in("user: !!binary aGk="), recipe.RuleValue},
		{"short volume", in("volumes: [a:/a]"), recipe.RuleVolume},
		{"no target", in("volumes: [{source: a}]"), recipe.RuleVolume},
		{"empty source", in("volumes: [{source: '', target: /a}]"), recipe.RuleVolume},
		{"empty target", in("volumes: [{source: a, target: ''}]"), recipe.RuleVolume},
		{"two storages", in(volume + "nfs: {}, driver: x}"), recipe.RuleOneStorage},
		{"no plugin", "services: {a: {image: b}}\n", recipe.RuleDefinition},
		{"other plugin", "plugin: hive_inventory\n", recipe.RuleDefinition},
		{"no services", "plugin: hive_services\n", recipe.RuleDefinition},
		{"services a list", "plugin: hive_services\nservices: [a]\n", recipe.RuleDefinition},
		{"a list", "- a\n", recipe.RuleDefinition},
		{"empty", "", recipe.RuleDefinition},
	}
	for _, tt := range tests {
		r, problems := recipe.ParsePartial("f", []byte(tt.src))
		if len(problems) != 1 || problems[0].Rule != tt.rule {
			t.Errorf("%s: %v of rules %+v, want one of %s", tt.name, problems, problems, tt.rule)
		}
		if r == nil || r.File != "f" {
			t.Fatalf("%s: %v", tt.name, r)
		}
		if s := r.Service("web"); tt.rule != recipe.RuleYAML && tt.rule != recipe.RuleDefinition && (s == nil || s.Image.Tag != "nginx") {
			t.Errorf("%s: service %+v", tt.name, s)
		}
		_, _ = r.Unresolved(), r.Comments()
	}
}

func TestKnown(t *testing.T) {
	r, _ := recipe.ParsePartial("f", []byte(`plugin: hive_services
services:
  web:
    image: nginx
    mode: globl
    replicas: "{{ n }}"
    endpoint_mode: dnsrr
    ports:
    - {target_port: 80, published_port: x, mode: host}
    - "81:x"
    - "82"
    volumes:
    - {source: a, target: /a, type: volum, drbd: {fstype: zfs, size: 1G}}
    labels: {HIVE_VIP:   192.168.56.101}
  bad: 5
`))
	s, bad := r.Service("web"), r.Service("bad")
	for what, got := range map[string][2]bool{
		"mode":             {s.Known("mode"), false},
		"replicas":         {s.Known("replicas"), false},
		"endpoint_mode":    {s.Known("endpoint_mode"), true},
		"standalone":       {s.Known("standalone"), true},
		"ports":            {s.Known("ports"), false},
		"long published":   {s.Ports[0].Known("published_port"), false},
		"long mode":        {s.Ports[0].Known("mode"), true},
		"long protocol":    {s.Ports[0].Known("protocol"), true},
		"short":            {s.Ports[1].Known("target_port"), false},
		"good short":       {s.Ports[2].Known("published_port"), true},
		"volume type":      {s.Volumes[0].Known("type"), false},
		"volume source":    {s.Volumes[0].Known("source"), true},
		"fstype":           {s.Volumes[0].DRBD.Known("fstype"), false},
		"size":             {s.Volumes[0].DRBD.Known("size"), true},
		"mode of no map":   {bad.Known("mode"), false},
		"labels of no map": {bad.Known("labels"), false},
	} {
		if got[0] != got[1] {
			t.Errorf("%s known is %v", what, got[0])
		}
	}
	for want, got := range map[string]recipe.Position{
		"f:9:41":  s.Ports[0].ValueAt("published_port"),
		"f:10:7":  s.Ports[1].ValueAt("published_port"),
		"f:13:37": s.Volumes[0].ValueAt("type"),
		"f:13:59": s.Volumes[0].DRBD.ValueAt("fstype"),
		"f:13:64": s.Volumes[0].DRBD.At("size"),
		"f:14:26": s.Labels[0].ValuePosition,
	} {
		if got.String() != want {
			t.Errorf("%v, want %s", got, want)
		}
	}
	if _, err := r.Resolve(map[string]string{"n": "2"}); err == nil {
		t.Error("Resolve has no word on the rest")
	}
}
