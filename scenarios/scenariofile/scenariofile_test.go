package scenariofile_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/hiveproof/hiveproof/docs"
	"github.com/hiveproof/hiveproof/provision/topology"
	"github.com/hiveproof/hiveproof/scenarios"
	"github.com/hiveproof/hiveproof/scenarios/recipe"
	"github.com/hiveproof/hiveproof/scenarios/scenariofile"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"
)

// shop is what the examples of docs/scenario-files.md name.
var shop = map[string]string{
	"services.yml": `plugin: hive_services
services:
  powerdns:
    image: procube/powerdns:latest
    mode: replicated
    replicas: 2
    ports: ["53:53/udp"]
    environment: {PASSWORD: "{{ db_password }}", DOMAIN: "{{ domain }}"}
  shop:
    image: shop
    endpoint_mode: dnsrr
    available_on: [production]
`,
	"more/proxy.yml": `plugin: hive_services
services:
  proxy:
    image: nginx
    mode: "{{ proxy_mode }}"
    endpoint_mode: dnsrr
    ports: [{target_port: 80, published_port: 80, mode: host}]
`,
	"more/hive.yml":      "plugin: hive_inventory\nname: shop\n",
	"group_vars/all.yml": "proxy_mode: global\ndb_password: from the file\ndomain: example.com\n",
	"tag-mapping.json":   `{"shop": "registry/shop:1"}`,
	"files/cert.pem":     "certificate\n",
}

// site writes files, and the scenario file beside them.
func site(t *testing.T, files map[string]string, scenario string) string {
	t.Helper()
	dir := t.TempDir()
	files["scenario.yml"] = scenario
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "scenario.yml")
}

func with(changes map[string]string) map[string]string {
	files := map[string]string{}
	for name, content := range shop {
		files[name] = content
	}
	for name, content := range changes {
		files[name] = content
	}
	return files
}

func schema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(docs.ScenarioSchema))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("scenario.json", document); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("scenario.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// bySchema is what the schema says about a scenario.
func bySchema(t *testing.T, s *jsonschema.Schema, text string) error {
	t.Helper()
	var value any
	if err := yaml.Unmarshal([]byte(text), &value); err != nil {
		t.Fatal(err)
	}
	src, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(src))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(document)
}

// examples are the scenarios in the documentation.
func examples(t *testing.T) []string {
	t.Helper()
	page, err := os.ReadFile("../../docs/scenario-files.md")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, m := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(page, -1) {
		all = append(all, string(m[1]))
	}
	if len(all) != 3 {
		t.Fatalf("%d examples", len(all))
	}
	return all
}

func TestExamples(t *testing.T) {
	s := schema(t)
	var loaded []scenarios.Scenario
	for _, text := range examples(t) {
		if err := bySchema(t, s, text); err != nil {
			t.Errorf("the schema refuses\n%s%v", text, err)
		}
		got, report, err := scenariofile.Load(site(t, with(nil), text), topology.Default())
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if report != nil && report.Failed(false) {
			t.Errorf("lint: %v", scenariofile.Problems(report))
		}
		loaded = append(loaded, got)
	}

	smallest := loaded[0]
	if smallest.Workload != scenarios.Agent || smallest.Title != "my-shop" || len(smallest.Sources) != 1 ||
		smallest.Front != nil || smallest.Claims != nil || smallest.Faults != nil {
		t.Errorf("the smallest: %+v", smallest)
	}

	full := loaded[1]
	var sources []string
	for i, src := range full.Sources {
		sources = append(sources, filepath.Base(src.Path))
		full.Sources[i].Text = nil
	}
	if want := []string{"services.yml", "proxy.yml"}; !reflect.DeepEqual(sources, want) {
		t.Errorf("sources %v, want %v", sources, want)
	}
	full.Sources = nil
	if want := (scenarios.Scenario{
		ID: "my-shop", Title: "My shop", English: "My shop", Recipe: "services.yml, more", Stage: "production", Workload: scenarios.Agent,
		Vars:   map[string]string{"db_password": "x", "proxy_mode": "global", "domain": "example.com"},
		Images: recipe.TagMapping{"shop": "registry/shop:1"},
		Front:  &scenarios.Front{Kind: scenarios.BuiltIn, Service: "shop", Proxy: "proxy", Sticky: true},
		Views:  "powerdns",
		Files: []scenarios.HostFile{
			{Path: "/var/proxy/nginx/conf.d/site.conf", Content: "server { listen 80; }\n"},
			{Path: "/var/proxy/nginx/cert.pem", Content: "certificate\n", Host: "hive0"},
		},
		Clients: []string{"segment", "outside-a"},
		Claims: []scenarios.ClaimRef{
			{ID: "one-to-one/source-kept", Service: "proxy"},
			{ID: "mesh/survives-host-loss", Params: map[string]string{"max_outage": "30s"}},
		},
		Faults: []string{"task-loss", "host-loss"},
	}); !reflect.DeepEqual(full, want) {
		t.Errorf("got  %+v\nwant %+v", full, want)
	}

	// What the guide's scenario has, and the file does not say, stays.
	guide := scenarios.All()[0]
	if got := loaded[2]; got.Recipe != guide.Recipe || got.Views != guide.Views || !reflect.DeepEqual(got.Vars, guide.Vars) ||
		got.Workload != scenarios.StandIns || got.Title != guide.Title || got.ID != "quick-failover" || got.Sources != nil {
		t.Errorf("a recipe: %+v", got)
	}
}

const head = "version: hiveproof.scenario/v1\nid: x\n"

func TestBad(t *testing.T) {
	s := schema(t)
	own := head + "services: [services.yml]\n"
	for _, test := range []struct {
		name, text string
		schema     bool     // a schema can say it
		want       []string // the problems, each from its line on
	}{
		{"empty", "", false, []string{"1:1: the file is empty"}},
		{"not YAML", head + "services: [\n", false, []string{"4:1: not YAML: "}},
		{"two documents", own + "---\n" + own, false, []string{"4:1: a second document"}},
		{"no map", "[]\n", true, []string{"1:1: a scenario must be a map, not a list"}},
		{"nothing", "{}\n", true, []string{"1:1: a scenario needs version", "1:1: a scenario needs id", "1:1: a scenario needs services, or a recipe"}},
		{"version", "version: 2\nid: x\nrecipe: stateless-mesh\n", true, []string{`1:10: version must be hiveproof.scenario/v1, not "2"`}},
		{"ID", "version: hiveproof.scenario/v1\nid: My shop\nservices: [services.yml]\n", true, []string{`2:5: id "My shop": want lower-case`}},
		{"both", own + "recipe: stateless-mesh\n", true, []string{"1:1: a scenario has services or a recipe of the guide, not both"}},
		{"recipe", head + "recipe: stateles-mesh\n", true, []string{`3:9: recipe must be stateless-mesh, stateless-global, lb-stateless-mesh, lb-sticky-global, builtin-lb or builtin-sticky, not "stateles-mesh": did you mean "stateless-mesh"?`}},
		{"unknown key", own + "claim: []\n", true, []string{`4:1: unknown key "claim" in a scenario: did you mean "claims"?`}},
		{"twice", own + "title: a\ntitle: b\n", false, []string{`5:1: key "title" is given twice`}},
		{"types", own + "title: 3\nvars: x\nvars_file: [x]\nviews:\nclients: segment\n", true, []string{
			`4:8: title must be a text, not "3": put it into quotes`, `5:7: vars must be a map, not "x"`, "6:12: vars_file must be a text, not a list",
			"7:7: views must be a text, not nothing", `8:10: clients must be a list, not "segment"`}},
		{"vars", own + "vars: {a: [], b: !vault x}\n", true, []string{`4:11: "a" of vars must be a text or a number, not a list`, `4:18: "b" of vars must be`}},
		{"choices", own + "stage: prod\nworkload: agents\nfaults: [power-cut, task-loss, task-loss]\n", true, []string{
			`4:8: stage must be private, staging or production, not "prod"`, `5:11: workload must be agent, image or stand-ins, not "agents": did you mean "agent"?`,
			`6:10: an item of faults must be task-loss, host-loss or leader-loss, not "power-cut"`, `6:32: faults has "task-loss" twice`}},
		{"empty lists", head + "services: []\nclients: []\nclaims: []\n", true, []string{"3:11: services is empty", "4:10: clients is empty", "5:9: claims is empty"}},
		{"load balancer", own + "load_balancer: {kind: internal, sticky: 1}\n", true, []string{
			"4:16: load_balancer needs service", `4:23: kind must be external or built-in, not "internal"`, `4:41: sticky must be true or false`}},
		{"no proxy", own + "load_balancer: {kind: built-in, service: shop}\n", true, []string{"4:16: a built-in load balancer needs proxy"}},
		{"a proxy", own + "load_balancer: {kind: external, service: shop, proxy: powerdns}\n", true, []string{"4:55: proxy is for kind: built-in"}},
		{"its own proxy", own + "load_balancer: {kind: built-in, service: shop, proxy: shop}\n", false, []string{"4:55: the load balancer cannot be the service behind it"}},
		{"files", own + "files:\n- {path: etc/x, content: ''}\n- {path: /a/../b, content: ''}\n- {path: /a}\n- {path: /a, content: '', from: x}\n", true, []string{
			`5:10: path "etc/x": want the absolute path`, `6:10: path "/a/../b": want`, "7:3: a file needs one of content and from",
			"8:3: a file needs one of", `8:10: file "/a" is given twice`, `8:33: "DIR/x" cannot be read: no such file or directory`}},
		{"hosts and clients", own + "files: [{path: /a, content: x, host: hive7}]\nclients: [inside]\n", false, []string{
			`4:38: the topology has no host "hive7"`, `5:11: the topology has no client "inside": it has segment, outside-a, outside-b`}},
		{"missing files", head + "services: [none.yml, nowhere]\nvars_file: no.yml\ntag_mapping: no.json\n", false, []string{
			"3:12: services: ", "3:22: services: ", "4:12: vars_file: reading variables: open DIR/no.yml: no such file", "5:14: tag_mapping: "}},
		{"no definition", head + "services: [group_vars]\n", false, []string{"3:12: no service definition in group_vars"}},
		{"names", own + "views: dns\nload_balancer: {kind: built-in, service: web, proxy: lb}\n", false, []string{
			`4:8: views: the definitions have no service "dns": they have powerdns, shop`, `5:42: load_balancer.service: the definitions have no service "web"`, `5:54: load_balancer.proxy: `}},
		{"not on the stage", own + "stage: private\nviews: shop\n", false, []string{`5:8: views: the definitions have no service "shop": they have powerdns`}},
		{"claims", own + `claims:
- id: mesh/source-hiden
- {id: mesh/source-hidden, service: web}
- {id: mesh/source-hidden, service: shop}
- {id: one-to-one/views}
- {id: mesh/balances, params: {max_outage: 30s}}
- {id: mesh/survives-task-loss, params: {max_outage: soon, maximum: 3}}
- {id: mesh/survives-host-loss, params: {max_outage: -1s}}
- {id: mesh/survives-host-loss}
`, false, []string{
			`5:7: there is no claim "mesh/source-hiden": did you mean "mesh/source-hidden"?`,
			`6:37: mesh/source-hidden is asked of service "web", which the definitions do not have`,
			"7:37: mesh/source-hidden of service shop is for mesh, and this service is internal",
			"8:8: one-to-one/views is for one-to-one + answers by source address, and no service of the definitions is",
			`9:44: mesh/balances: there is no parameter "max_outage": this claim has none`,
			`10:54: mesh/survives-task-loss: max_outage "soon": want a duration such as 60s`,
			`10:69: mesh/survives-task-loss: there is no parameter "maximum": there is max_outage`,
			`11:54: mesh/survives-host-loss: max_outage "-1s": want a duration`,
			"12:8: claim mesh/survives-host-loss is named twice for the same service"}},
		{"claim without ID", own + "claims: [{service: shop}, mesh/balances]\n", true, []string{"4:10: a claim needs id", `4:27: a claim must be a map, not "mesh/balances"`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := site(t, with(nil), test.text)
			got, _, err := scenariofile.Load(path, topology.Default())
			var problems recipe.Problems
			if !errors.As(err, &problems) {
				t.Fatalf("got %+v, %v; want problems", got, err)
			}
			var lines []string
			for _, p := range problems {
				if p.File != path {
					t.Errorf("%v: is of another file", p)
				}
				lines = append(lines, strings.ReplaceAll(strings.TrimPrefix(p.Error(), path+":"), filepath.Dir(path), "DIR"))
			}
			ok := len(lines) == len(test.want)
			for i := range min(len(lines), len(test.want)) {
				ok = ok && strings.HasPrefix(lines[i], test.want[i])
			}
			if !ok {
				t.Errorf("got\n  %s\nwant\n  %s", strings.Join(lines, "\n  "), strings.Join(test.want, "\n  "))
			}
			if test.schema && bySchema(t, s, test.text) == nil {
				t.Error("the schema lets it pass")
			}
		})
	}
}

// The schema names what the parser does, so that neither is changed alone.
func TestSchemaChoices(t *testing.T) {
	var doc struct {
		Properties map[string]struct {
			Const string
			Enum  []string
			Items struct{ Enum []string }
		}
	}
	if err := json.Unmarshal(docs.ScenarioSchema, &doc); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range scenarios.All() {
		names = append(names, strings.TrimSuffix(s.Recipe, ".yml"))
	}
	for key, pair := range map[string][2][]string{
		"recipe": {doc.Properties["recipe"].Enum, names},
		"stage":  {doc.Properties["stage"].Enum, recipe.Stages()},
		"faults": {doc.Properties["faults"].Items.Enum, scenarios.Faults()},
	} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			t.Errorf("%s: the schema has %v, the parser %v", key, pair[0], pair[1])
		}
	}
	if got := doc.Properties["version"].Const; got != scenariofile.Version {
		t.Errorf("version %q", got)
	}
}

// What is wrong in the files that a scenario names is told where it stands there.
func TestOtherFiles(t *testing.T) {
	text := head + "services: [services.yml, more]\nvars_file: group_vars/all.yml\ntag_mapping: tag-mapping.json\n"
	for name, test := range map[string]struct {
		file, content string
		want          string // the problem, with the file's name
	}{
		"variables":   {"group_vars/all.yml", "a: 1\na: 2\n", "group_vars/all.yml:2:1: "},
		"tag mapping": {"tag-mapping.json", `{"a": 1}`, "tag-mapping.json:1:7: "},
		"a template":  {"group_vars/all.yml", "domain: x\n", "more/proxy.yml:5:11: a template where the value must be known: give it one in vars or vars_file of DIR/scenario.yml"},
	} {
		path := site(t, with(map[string]string{test.file: test.content}), text)
		_, _, err := scenariofile.Load(path, topology.Default())
		dir := filepath.Dir(path)
		if got := strings.ReplaceAll(fmt.Sprint(err), dir, "DIR"); !strings.Contains(got, "DIR/"+test.want) {
			t.Errorf("%s: %s\nlacks %s", name, got, test.want)
		}
	}

	// Lint's errors, and what the parser refuses, are not the loader's to judge.
	for _, content := range []string{
		"plugin: hive_services\nservices:\n  web: {image: x, imagee: y} # hiveproof:ignore HP002 no reason\n",
		"plugin: hive_services\nservices:\n  web: {image: x, endpoint_mode: dnsrr, ports: ['80']}\n",
	} {
		path := site(t, map[string]string{"services.yml": content}, head+"services: [services.yml]\n")
		_, report, err := scenariofile.Load(path, topology.Default())
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		problems := scenariofile.Problems(report)
		if len(problems) != 1 || problems[0].Line != 3 || !strings.HasPrefix(problems[0].Message, problems[0].Rule+" web: ") {
			t.Errorf("%s: %v", content, problems)
		}
	}
}
