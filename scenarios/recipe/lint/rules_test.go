package lint_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	pages "github.com/hiveproof/hiveproof/docs/rules"
	"github.com/hiveproof/hiveproof/scenarios/recipe/lint"
	"github.com/hiveproof/hiveproof/scenarios/recipes"
)

// three is the guide's own site.
var three = lint.Options{Hosts: 3}

// lintTexts lints texts as files a.yml, b.yml, … of one site.
func lintTexts(opts lint.Options, texts ...string) *lint.Report {
	var sources []lint.Source
	for i, text := range texts {
		sources = append(sources, lint.Source{Path: string(rune('a'+i)) + ".yml", Text: []byte(text)})
	}
	return lint.Run(sources, opts)
}

// found gives findings as "file rule service line:column".
func found(r *lint.Report) []string {
	out := []string{}
	for _, f := range r.Files {
		for _, x := range f.Findings {
			out = append(out, fmt.Sprintf("%s %s %s %d:%d", strings.TrimSuffix(f.Path, ".yml"), x.Rule, x.Service, x.Line, x.Column))
		}
	}
	return out
}

func expect(t *testing.T, r *lint.Report, want ...string) {
	t.Helper()
	if got := found(r); !slices.Equal(got, want) {
		t.Errorf("found\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
		for _, f := range r.Files {
			for _, x := range f.Findings {
				t.Logf("%+v", x)
			}
		}
	}
}

var block = regexp.MustCompile("(?s)```yaml\n(.*?)```")

// Each rule has a page; its failing example breaks that rule and no other, and the
// corrected one breaks none.
func TestPages(t *testing.T) {
	for _, rule := range lint.Rules() {
		page, err := pages.Page(rule.ID)
		if err != nil {
			t.Error(err)
			continue
		}
		if want := "# " + rule.ID + ": " + rule.Title + "\n"; !strings.HasPrefix(page, want) {
			t.Errorf("%s does not begin with %q", rule.ID, want)
		}
		if !strings.Contains(page, "\n"+strings.ToUpper(string(rule.Severity[:1]))+string(rule.Severity[1:])+". ") {
			t.Errorf("%s does not say that it is of severity %s", rule.ID, rule.Severity)
		}
		examples := block.FindAllStringSubmatch(page, -1)
		if len(examples) != 2 {
			t.Errorf("%s has %d examples", rule.ID, len(examples))
			continue
		}
		bad, good := lintTexts(three, examples[0][1]), lintTexts(three, examples[1][1])
		if len(found(bad)) == 0 {
			t.Errorf("%s: its failing example does not fail", rule.ID)
		}
		for _, x := range bad.Files[0].Findings {
			if x.Rule != rule.ID || x.Severity != rule.Severity {
				t.Errorf("the failing example of %s: %+v", rule.ID, x)
			}
		}
		if got := found(good); len(got) > 0 {
			t.Errorf("the corrected example of %s: %v", rule.ID, got)
		}
	}
	if _, err := pages.Page("../errata"); err == nil {
		t.Error("a page that is no rule's")
	}
}

// The embedded recipes carry the guide's settings, corrected.
func TestRecipesAreClean(t *testing.T) {
	for _, name := range recipes.Names() {
		src, err := recipes.Read(name)
		if err != nil {
			t.Fatal(err)
		}
		r := lint.Run([]lint.Source{{Path: name, Text: src}}, three)
		if r.Failed(true) {
			t.Errorf("%s: %v %+v", name, found(r), r.Files[0])
		}
	}
}

const head = "plugin: hive_services\nservices:\n"

// service is a service with an image in line 4 and further keys, one a line, from
// line 5 on.
func service(name string, lines ...string) string {
	text := "  " + name + ":\n    image: nginx\n"
	for _, line := range lines {
		text += "    " + line + "\n"
	}
	return text
}

func one(lines ...string) string { return head + service("web", lines...) }

func port(number int, mode string) string {
	return fmt.Sprintf("ports: [{target_port: 80, published_port: %d, mode: %s}]", number, mode)
}

func volumes(list ...string) string { return "volumes: [" + strings.Join(list, ", ") + "]" }

const (
	dnsrr  = "endpoint_mode: dnsrr"
	global = "mode: global"
	vip    = "labels: {HIVE_VIP: 10.0.0.1}"
	drbd   = "{source: d, target: /d, type: volume, drbd: {fstype: xfs, size: 1G}}"
	nfs    = "{source: n, target: /n, type: volume, nfs: {}}"
	bind   = "{source: /b, target: /b, type: bind}"
	plain  = "{source: p, target: /p, type: volume}"
	tmpfs  = "{source: '', target: /t, type: tmpfs}"
)

// at puts the sign in that marks where a finding is expected.
func at(text, before string) string { return strings.Replace(text, before, "§"+before, 1) }

// marked takes the signs out and gives their places.
func marked(text string) (plain string, places []string) {
	for i, line := range strings.Split(text, "\n") {
		for {
			before, after, ok := strings.Cut(line, "§")
			if !ok {
				break
			}
			places = append(places, fmt.Sprintf("%d:%d", i+1, len([]rune(before))+1))
			line = before + after
		}
		plain += line + "\n"
	}
	return strings.TrimSuffix(plain, "\n"), places
}

// What breaks a rule, and what just does not; § stands before each offending value.
func TestRules(t *testing.T) {
	hosts1, production := lint.Options{Hosts: 1}, lint.Options{Hosts: 3, Stage: "production"}
	driver := func(name, options string) string {
		return fmt.Sprintf("{source: %s, target: /x, type: volume, driver: local, driver_opts: {%s}}", name, options)
	}
	constraint := func(c string) string { return "placement: {constraints: ['" + c + "']}" }
	const export = "type: nfs4, device: ':/x', o: 'addr=10.0.0.9,rw'"
	const ext4 = "{source: d, target: /d, type: volume, drbd: {size: 1G, fstype: ext4}}"
	app := func(number int) string { return service("app", global, dnsrr, port(number, "host")) }
	marked80 := strings.Replace(port(80, "ingress"), ": 80, mode", ": §80, mode", 1)
	host80 := strings.Replace(port(80, "host"), ": 80, mode", ": §80, mode", 1)
	badApp := strings.Replace(app(8080), "8080", "§8080", 1)
	tests := []struct {
		name string
		opts lint.Options
		src  string
		want string // the findings in the order of the file: rules and services
	}{
		{"HP007 bind", three, one(dnsrr, global, volumes("§{source: /b, target: /b}")), "HP007 web"},
		{"HP007 block", three, one(dnsrr, global, "volumes:", "- §source: /b", "  target: /b"), "HP007 web"},
		{"HP007 tmpfs", three, one(dnsrr, volumes(tmpfs)), ""},

		{"HP101 scalable", three, one(dnsrr, "replicas: 2", volumes(at(drbd, "drbd"))), "HP101 web"},
		{"HP101 global", three, one(dnsrr, global, volumes(at(drbd, "drbd"))), "HP101 web"},
		{"HP101 on one host", hosts1, one(dnsrr, "replicas: 2", volumes(at(drbd, "drbd"))), "HP101 web"},
		{"HP101 by name", three, one(dnsrr, volumes(drbd)) + service("api", dnsrr, "replicas: 2", volumes("{source: d, target: /x, type: §volume}")), "HP101 api"},
		{"HP101 balance unknown", three, one(dnsrr, "mode: '{{ m }}'", "replicas: 2", volumes(at(drbd, "drbd"))), "HP101 web"},
		{"HP101 singleton", three, one(dnsrr, "replicas: 1", volumes(drbd, nfs, driver("a", export))), ""},
		{"HP101 replicas unknown", three, one(dnsrr, "replicas: '{{ n }}'", volumes(drbd)), ""},
		{"HP101 nfs", three, one(dnsrr, "replicas: 2", volumes(nfs, driver("a", export))), ""},

		{"HP102 bind", three, one(dnsrr, volumes(at(bind, "bind"))), "HP102 web"},
		{"HP102 plain", three, one(dnsrr, volumes(at(plain, "volume"))), "HP102 web"},
		{"HP102 no type", three, one(dnsrr, volumes("§{source: §p, target: /p}")), "HP007 web, HP102 web"},
		{"HP102 scalable", three, one(dnsrr, "replicas: 3", volumes(at(bind, "bind"))), "HP102 web"},
		{"HP102 local driver", three, one(dnsrr, "replicas: 3", volumes(at(driver("a", "type: btrfs"), "local"))), "HP102 web"},
		{"HP102 hosts unknown", lint.Options{}, one(dnsrr, volumes(at(bind, "bind"))), "HP102 web"},
		{"HP102 replicas unknown", three, one(dnsrr, "replicas: '{{ n }}'", volumes(at(plain, "volume"))), "HP102 web"},
		{"HP102 one host", hosts1, one(dnsrr, volumes(bind, plain)), ""},
		{"HP102 global", three, one(dnsrr, global, volumes(bind, plain)), ""},
		{"HP102 tmpfs", three, one(dnsrr, "replicas: 2", volumes(tmpfs)), ""},
		{"HP102 by name", three, one(dnsrr, volumes("{source: d, target: /x, type: volume}")) + service("api", dnsrr, volumes(drbd)), ""},
		{"HP102 mode unknown", three, one(dnsrr, "mode: '{{ m }}'", volumes(plain)), ""},
		{"HP102 driver unknown", three, one(dnsrr, "replicas: 2", volumes("{source: p, target: /p, type: volume, driver: '{{ d }}'}", driver("a", "type: '{{ t }}'"))), ""},

		{"HP103 singleton and scalable", three, one(dnsrr, volumes(at(nfs, "n,"))) + service("api", dnsrr, "replicas: 2", volumes(nfs)), "HP103 web"},
		{"HP103 by name", three, one(dnsrr, volumes("{source: §n, target: /x, type: volume}")) + service("api", dnsrr, "replicas: 2", volumes(nfs)), "HP103 web"},
		{"HP103 two singletons", three, one(dnsrr, volumes(at(nfs, "n,"))) + service("api", dnsrr, volumes(at(nfs, "n,"))), "HP103 web, HP103 api"},
		{"HP103 one export, two names", three, one(dnsrr, volumes(driver("§a", export))) + service("api", dnsrr, global, volumes(driver("b", export))), "HP103 web"},
		{"HP103 two exports", three, one(dnsrr, volumes(driver("a", export))) + service("api", dnsrr, global, volumes(driver("b", strings.Replace(export, "/x", "/y", 1)))), ""},
		{"HP103 two servers", three, one(dnsrr, volumes(driver("a", export))) + service("api", dnsrr, global, volumes(driver("b", strings.Replace(export, ".9", ".8", 1)))), ""},
		{"HP103 alone", three, one(dnsrr, volumes(nfs)), ""},
		{"HP103 scalable and global", three, one(dnsrr, global, volumes(nfs)) + service("api", dnsrr, "replicas: 2", volumes(nfs)), ""},
		{"HP103 other stage", three, one(dnsrr, "available_on: [private]", volumes(nfs)) + service("api", dnsrr, "available_on: [production]", volumes(nfs)), ""},

		{"HP104 host and shared", three, one(dnsrr, global, volumes(bind, at(nfs, "nfs"))), "HP104 web"},
		{"HP104 tmpfs", three, one(dnsrr, global, volumes(tmpfs, bind, plain)), ""},
		{"HP104 drbd and nfs of a singleton", three, one(dnsrr, volumes(drbd, nfs)), ""},

		{"HP105", three, one(vip, "ports: [{target_port: 80, published_port: 80}, {target_port: 81, published_port: 81, mode: §host}]"), "HP105 web"},
		{"HP105 default second", three, one(vip, "ports: [{target_port: 81, published_port: 81, mode: host}, §'80:80']"), "HP105 web"},
		{"HP105 one mode, two ways", three, one("ports: [{target_port: 80, published_port: 80, mode: ingress}, '81:81']"), ""},

		{"HP106", three, one(dnsrr, volumes(at(ext4, "ext4"))), "HP106 web"},
		{"HP106 xfs", three, one(dnsrr, volumes(strings.Replace(ext4, "ext4", "xfs", 1))), ""},
		{"HP106 on another stage", production, one(dnsrr, global, volumes(strings.Replace(ext4, "}}", ", available_on: [staging]}}", 1))), ""},
		{"HP107", three, one(dnsrr, volumes(strings.Replace(drbd, "1G", "§100M", 1))), "HP107 web"},
		{"HP107 larger", three, one(dnsrr, volumes(strings.Replace(drbd, "1G", "101M", 1))), ""},
		{"HP107 template", three, one(dnsrr, volumes(strings.Replace(drbd, "1G", "'{{ s }}'", 1))), ""},
		{"HP107 small ext4", three, one(dnsrr, volumes(at(strings.Replace(ext4, "1G", "64M", 1), "ext4"))), "HP106 web"},

		{"HP201", three, one(at(dnsrr, "dnsrr"), port(80, "ingress")), "HP201 web"},
		{"HP201 default mode", three, one("ports: ['80:80', '81:81']", at(dnsrr, "dnsrr")), "HP201 web"},
		{"HP201 vip", three, one("endpoint_mode: vip", port(80, "ingress")), ""},
		{"HP201 mode unknown", three, one(dnsrr, port(80, "'{{ m }}'")), ""},

		{"HP202", three, one(global, port(80, "§ingress")), "HP202 web"},
		{"HP202 default mode", three, one(global, "ports: [§'80:80', §{target_port: 81, published_port: 81}]"), "HP202 web, HP202 web"},
		{"HP202 host", three, one(global, dnsrr, port(80, "host")), ""},

		{"HP203", three, one("replicas: 2", port(80, "§host")), "HP203 web"},
		{"HP203 one replica", three, one("replicas: 1", dnsrr, vip, port(80, "host")), ""},
		{"HP203 replicas unknown", three, one("replicas: '{{ n }}'", port(80, "host")), ""},

		{"HP204", three, one(global, "endpoint_mode: §vip", port(80, "host")), "HP204 web"},
		{"HP204 default", three, at(one(global, port(80, "host")), "web"), "HP204 web"},
		{"HP204 dnsrr", three, one(global, dnsrr, port(80, "host")), ""},
		{"HP204 unknown", three, one(global, "endpoint_mode: '{{ e }}'", port(80, "host")), ""},

		{"HP205 internal", three, one("endpoint_mode: §vip"), "HP205 web"},
		{"HP205 default", three, at(one(), "web"), "HP205 web"},
		{"HP205 no ports", three, at(one("ports: []"), "web"), "HP205 web"},
		{"HP205 virtual IP", three, at(one(vip, port(80, "host")), "web"), "HP205 web"},
		{"HP205 mesh", three, one(port(80, "ingress")), ""},
		{"HP205 dnsrr", three, one(dnsrr), ""},
		{"HP205 ports wrong", three, one("ports: §80"), "HP003 web"},

		{"HP206", three, one(dnsrr, global, "replicas: §3"), "HP206 web"},
		{"HP206 template", three, one(dnsrr, global, "replicas: §'{{ n }}'"), "HP206 web"},
		{"HP206 unsaid", three, one(dnsrr, global, "replicas: -1"), ""},

		{"HP207", three, one("replicas: 2", "labels: {a: b, §HIVE_VIP: 10.0.0.1, §HIVE_VIP5: 10.0.0.2, §HIVE_VIP0_V6: '::1'}", port(80, "ingress")), "HP207 web, HP207 web, HP207 web"},
		{"HP207 global", three, one(global, dnsrr, "labels: {§HIVE_VIP_V6: '::1'}"), "HP207 web"},
		{"HP207 other labels", three, one("replicas: 2", "labels: {HIVE_VIP6: x, HIVE_VIPS: x, HIVE_ENABLE_VIP_SNAT: x}", port(80, "ingress")), ""},
		{"HP207 singleton", three, one(vip, port(80, "ingress")), ""},

		{"HP208", three, one(dnsrr, port(80, "§host")), "HP208 web"},
		{"HP208 V6", three, one(dnsrr, port(80, "host"), "labels: {HIVE_VIP_V6: 'fd00::1'}"), ""},
		{"HP208 one host", hosts1, one(dnsrr, port(80, "host")), ""},
		{"HP208 kept on a host", three, one(dnsrr, port(80, "host"), constraint("node.hostname == hive0")), ""},
		{"HP208 kept off a host", three, one(dnsrr, port(80, "§host"), constraint("node.hostname!=hive0")), "HP208 web"},

		{"HP209", three, one(port(80, "ingress")) + service("api", marked80), "HP209 api"},
		{"HP209 short", three, one("ports: ['80:81']") + service("api", "ports: [§'80:82/tcp']"), "HP209 api"},
		{"HP209 three", three, one("ports: ['80:81']") + service("api", "ports: [§'80:82']") + service("db", "ports: [§'80:82']"), "HP209 api, HP209 db"},
		{"HP209 twice in one", three, one("ports: ['80:81', §'80:82']"), "HP209 web"},
		{"HP209 other protocol", three, one("ports: ['53:53/udp']") + service("api", "ports: ['53:53']"), ""},
		{"HP209 host against ingress", three, one(global, dnsrr, port(80, "host")) + service("api", marked80), "HP209 api"},
		{"HP209 two globals", three, one(global, dnsrr, port(80, "host")) + service("api", global, dnsrr, host80), "HP209 api"},
		{"HP209 globals apart", three, one(global, dnsrr, port(80, "host"), constraint("node.labels.a == true")) +
			service("api", global, dnsrr, port(80, "host"), constraint("node.labels.a!=true")), ""},
		{"HP209 globals on other values", three, one(global, dnsrr, port(80, "host"), constraint("node.labels.a==x")) +
			service("api", global, dnsrr, port(80, "host"), constraint("node.labels.a==y")), ""},
		{"HP209 globals on the same value", three, one(global, dnsrr, port(80, "host"), constraint("node.labels.a==x")) +
			service("api", global, dnsrr, host80, constraint("node.labels.a==x")), "HP209 api"},
		{"HP209 no stage in common", three, one("available_on: [private]", port(80, "ingress")) + service("api", "available_on: [staging, production]", port(80, "ingress")), ""},
		{"HP209 a stage in common", three, one("available_on: [private, staging]", port(80, "ingress")) + service("api", "available_on: [staging]", marked80), "HP209 api"},
		{"HP209 not on this stage", production, one("available_on: [private, staging]", port(80, "ingress")) + service("api", port(80, "ingress")), ""},
		{"HP209 assigned", three, one("ports: ['80']") + service("api", "ports: ['80']"), ""},
		{"HP209 template", three, one("ports: ['{{ p }}:80']") + service("api", "ports: ['{{ p }}:80']"), ""},
		{"HP209 singletons on several hosts", three, one(dnsrr, vip, port(80, "host")) + service("api", dnsrr, vip, port(80, "host")), ""},
		{"HP209 more singletons than hosts", lint.Options{Hosts: 2}, one(dnsrr, vip, port(80, "host")) + service("api", dnsrr, vip, port(80, "host")) + service("db", dnsrr, vip, host80), "HP209 db"},
		{"HP209 singletons on one host", hosts1, one(dnsrr, port(80, "host")) + service("api", dnsrr, host80), "HP209 api"},
		{"HP209 singletons kept on one host", three, one(dnsrr, port(80, "host"), constraint("node.hostname==hive0")) +
			service("api", dnsrr, host80, constraint("node.hostname == hive0")), "HP209 api"},

		{"HP210 whole value", three, one(port(443, "ingress"), "environment: {APP_HOST: app}") + badApp, "HP210 app"},
		{"HP210 host and port", three, one(port(443, "ingress"), "command: [--to, hive2.example:8080]") + badApp, "HP210 app"},
		{"HP210 label", three, one(port(443, "ingress"), "labels: {up: 'http://app/x'}") + badApp, "HP210 app"},
		{"HP210 9999", three, one(port(443, "ingress"), "environment: {A: 'app:80'}") + strings.Replace(app(9999), "9999", "§9999", 1), "HP210 app"},
		{"HP210 10000", three, one(port(443, "ingress"), "environment: {APP_HOST: app}") + app(10000), ""},
		{"HP210 only a word", three, one(port(443, "ingress"), "command: 'run app,now app.example:8080 the-app:8080'") + app(8080), ""},
		{"HP210 other port", three, one(port(443, "ingress"), "environment: {UP: 'app:9000 hive0:9000'}") + app(8080), ""},
		{"HP210 from inside", three, one(dnsrr, "environment: {APP_HOST: app}") + app(8080), ""},
		{"HP210 mesh", three, one(port(443, "ingress"), "environment: {APP_HOST: app}") + service("app", port(8080, "ingress")), ""},
		{"HP210 itself", three, head + service("app", global, dnsrr, port(8080, "host"), "environment: {APP_HOST: app}"), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			src, places := marked(tt.src)
			var want []string
			for i, what := range strings.Split(tt.want, ", ") {
				if what != "" {
					want = append(want, fmt.Sprintf("a %s %s", what, places[i]))
				}
			}
			if len(want) != len(places) {
				t.Fatalf("%d places for %q", len(places), tt.want)
			}
			expect(t, lintTexts(tt.opts, src), want...)
		})
	}
}

// Several files are one site.
func TestAcrossFiles(t *testing.T) {
	expect(t, lintTexts(three, one(port(80, "ingress")), head+service("api", port(80, "ingress"))), "b HP209 api 5:47")
	// What two services have through an anchor is said of each, and of one once.
	expect(t, lintTexts(three, one(global, dnsrr, "ports: [&p {target_port: 80, published_port: 80}, *p]")+service("api", global, "ports: [*p]")),
		"a HP201 web 6:20", "a HP202 web 7:16", "a HP202 api 7:16", "a HP209 web 7:50", "a HP209 api 7:50")
	expect(t, lintTexts(three, one(dnsrr, "replicas: 2", volumes(nfs)), head+service("api", dnsrr, volumes(nfs))), "b HP103 api 6:24")
}

// The parser's rules come with their service; what is wrong there yields nothing
// further.
func TestParserRules(t *testing.T) {
	for _, tt := range []struct{ src, want string }{
		{one(dnsrr) + "   x: y\n", "a HP001  6:4"},
		{one(dnsrr, "replica: 2"), "a HP002 web 6:5"},
		{one(dnsrr, "mode: globl", volumes(drbd), "labels: {HIVE_VIP: x}"), "a HP003 web 6:11"},
		{one(dnsrr, "volumes: ['a:/a']"), "a HP004 web 6:15"},
		{one(dnsrr, volumes("{source: a, target: /a, type: volume, nfs: {}, driver: x}")), "a HP005 web 6:62"},
		{"a: b\n", "a HP006  1:1"},
	} {
		expect(t, lintTexts(three, tt.src), tt.want)
	}
}
