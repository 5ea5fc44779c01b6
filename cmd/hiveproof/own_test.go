package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hiveproof/hiveproof/provision/topology"
	"github.com/hiveproof/hiveproof/scenarios"
	"github.com/hiveproof/hiveproof/scenarios/recipe"
)

// pdns is hive-builder's example project.
func pdns(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../../e2e/testdata/pdns")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func textFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// What is wrong with one's own scenarios is exit 2 and said before anything starts.
func TestOwnUsage(t *testing.T) {
	services := filepath.Join(pdns(t), "services.yml")
	vars := filepath.Join(pdns(t), "vars.yml")
	project := project(t)
	broken := filepath.Join(project, "broken.yml")
	host := filepath.Join(project, "services.yml") // a database whose data do not follow it
	scenario := func(rest string) string {
		return textFile(t, "shop.yml", "version: hiveproof.scenario/v1\nid: shop\nservices: ["+services+"]\nvars_file: "+vars+"\n"+rest)
	}
	good, unknown := scenario(""), scenario("claims:\n- id: mesh/source-hiden\n")
	missing := textFile(t, "missing.yml", "version: hiveproof.scenario/v1\nid: shop\nservices: [nowhere.yml]\n")
	linted := textFile(t, "linted.yml", "version: hiveproof.scenario/v1\nid: shop\nservices: ["+host+"]\nvars: {mode: global}\n")
	for _, test := range []struct {
		args   string
		stdout string // part of it, empty for none
		want   string // part of the message
	}{
		{"run --services nowhere.yml", "", "nowhere.yml"},
		{"run --services " + t.TempDir(), "", "no service definition in "},
		{"run --services " + services + " --stage test", "", "private, staging, production"},
		{"run --services " + services + " --vars nowhere.yml", "", "nowhere.yml"},
		{"run --services " + services + " --workload stand-ins", "", "none of agent, image"},
		{"run --services " + services + " --scenario stateless-mesh", "", "leave --scenario out"},
		{"run --services " + services + " --scenario-file " + good, "", "one or the other"},
		{"run --services " + services + " --mutate x", "", "--mutate: mutations are of the guide's"},
		{"run --services " + services + " --tag-mapping " + vars, "", vars + ":1:1: "},
		{"run --vars " + vars, "", "--vars: it is for --services"},
		{"run --stage staging --scenario-file " + good, "", "a scenario file says it itself"},
		{"run --force", "", "--force"},
		{"run --mutate nonsense --scenario stateless-mesh", "", "is no mutation"},
		{"run --scenario-file " + good + " --scenario-file " + good, "1 warning", "id shop is that of another"},
		{"run --scenario-file " + good + " --scenario ^x$", "1 warning", "selects none of: shop"},
		{"run --scenario-file nowhere.yml", "", "nowhere.yml:1:1: cannot be read"},
		{"run --scenario-file " + missing, "", missing + ":3:12: "},
		{"run --scenario-file " + unknown, "1 warning", unknown + `:6:7: there is no claim "mesh/source-hiden": did you mean`},
		{"run --scenario-file " + missing + " --scenario-file nowhere.yml", "", "nowhere.yml:1:1: cannot be read"},
		{"scenario validate " + unknown + " " + missing + " " + good, "✓ " + good, unknown + ":6:7: "},
		{"scenario validate " + linted, "", host + ":8:50: HP102 db: "},
		{"scenario validate", "", "arg"},
		{"scenario validate --topology nowhere.yml " + good, "", "nowhere.yml: cannot be read"},

		// Lint's errors, with and without --force.
		{"run --services " + host, "HP102 db", "nothing was started"},
		{"run --quiet --services " + host, "", "HP102 db"},
		{"run --json --services " + host, "", "nothing was started"},
		{"run --scenario-file " + linted, "HP102 db", "nothing was started"},
		{"run --scenario-file " + linted + " --force --claim nonsense", "HP102 db", `--claim "nonsense" selects none`},
		{"run --services " + host + " --force --stage private --claim nonsense", "HP102 db", "internal/not-exposed"},
		{"run --services " + broken + " --force", "HP001", broken + ":3:1: "},
		// A mode that is not known cannot be deployed, where it is deployed at all.
		{"run --force --services " + host, "1 unresolved", host + ":15:11: {{ mode }} has no value: give it one with --vars"},
	} {
		t.Run(test.args, func(t *testing.T) {
			d := newDirs(t)
			code, stdout, stderr := d.program(t, strings.Fields(test.args)...)
			if code != exitUsage || !strings.Contains(stderr, test.want) || !strings.Contains(stdout, test.stdout) || test.stdout == "" && stdout != "" {
				t.Errorf("exit %d, output %q, message %q; want %q and %q", code, stdout, stderr, test.stdout, test.want)
			}
			entries, err := os.ReadDir(d.root)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				t.Errorf("%s was made", e.Name())
			}
		})
	}
}

func TestScenarioCommand(t *testing.T) {
	var schema map[string]any
	if err := json.Unmarshal([]byte(good(t, "scenario", "schema")), &schema); err != nil || schema["$schema"] == nil {
		t.Errorf("%v: %v", err, schema)
	}
	file := textFile(t, "shop.yml", "version: hiveproof.scenario/v1\nid: shop\nservices: ["+pdns(t)+"]\nvars_file: "+pdns(t)+"/vars.yml\nworkload: image\n")
	// With the image itself, nobody says what address the container sees.
	want := "✓ " + file + ": shop, 6 claims about 3 services, 2 of them cannot be judged on this topology or workload\n"
	if got := good(t, "scenario", "validate", file); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// hive-builder's example, as its authors lay it out, can be run as it stands.
func TestPDNS(t *testing.T) {
	dir := pdns(t)
	code, stdout, _ := newDirs(t).program(t, "lint", "--hive", dir+"/hive.yml", "--stage", "staging", "--vars", dir+"/vars.yml", dir)
	if code != 0 || !strings.HasPrefix(stdout, dir+"/services.yml:31:3: warning HP205 pdnsdb: ") ||
		!strings.HasSuffix(stdout, "! 0 errors, 1 warning in 3 services of 1 file; 2 other files skipped\n") {
		t.Errorf("exit %d\n%s", code, stdout)
	}

	devnull, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer devnull.Close()
	f := ownFlags{services: []string{dir}, vars: dir + "/vars.yml", stage: "staging", workload: "agent",
		tags: textFile(t, "tags.json", `{"mariadb:10.4": "registry/mariadb:10.4"}`)}
	var sel scenarios.Selection
	if err := f.selectInto(&sel, topology.Default(), devnull); err != nil {
		t.Fatal(err)
	}
	plan, err := scenarios.NewPlan(sel, scenarios.FactsOf(topology.Default()))
	if err != nil {
		t.Fatal(err)
	}
	if len(plan.Scenarios) != 1 || plan.Scenarios[0].Scenario.ID != "pdns" || plan.Scenarios[0].Scenario.Images["mariadb:10.4"] != "registry/mariadb:10.4" {
		t.Fatalf("%+v", plan.Scenarios)
	}
	var got []string
	for _, c := range plan.Scenarios[0].Claims {
		got = append(got, c.Service+" "+c.Claim.ID+c.Skip)
	}
	want := []string{
		"powerdns mesh/every-host-answers", "powerdns mesh/source-hidden",
		"pdnsdb internal/not-exposed", "pdnsdb internal/resolves-to-tasks",
		"pdnsadmin mesh/every-host-answers", "pdnsadmin mesh/source-hidden",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	r := plan.Scenarios[0].Recipe
	password, _ := r.Service("pdnsdb").Environment.Get("MYSQL_PASSWORD")
	if volume := r.Service("pdnsdb").Volumes[0]; password != "hiveproof" || volume.DRBD == nil ||
		recipe.Classify(r.Service("pdnsadmin"), 3).Volume != recipe.ServiceVolume {
		t.Errorf("the definition was not read whole: %q, %+v", password, volume)
	}
}

func TestSiteID(t *testing.T) {
	for path, want := range map[string]string{
		"/srv/My Shop/": "my-shop", "a/services.yml": "services", "x/2024.yaml": "site-2024", "/": "site", "/srv/日本.yml": "site", "a/b.c.yml": "b-c",
	} {
		if got, err := siteID(path); got != want || err != nil {
			t.Errorf("%s: %q, %v; want %q", path, got, err, want)
		}
	}
}
