package lint_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hiveproof/hiveproof/scenarios/recipe/lint"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// sample has something of everything.
func sample() *lint.Report {
	return lint.Run([]lint.Source{
		{Path: "a dir/services.yml", Text: []byte(head + service("web", "mode: global", "labels: {日本語: x, \"HIVE_VIP\":\t\"10.0.0.1\"}", port(80, "ingress")) +
			service("api", "endpoint_mode: vip # hiveproof:ignore HP205 <legacy>", "replicas: '{{ n }}'") + "    # hiveproof:ignore HP007\n")},
		{Path: "/srv/bad.yml", Text: []byte("plugin: hive_services\nservices: []\n")},
		{Path: "hive.yml", Text: []byte("plugin: hive_inventory\n"), Found: true},
	}, three)
}

func TestWriteText(t *testing.T) {
	var plain, coloured bytes.Buffer
	if err := lint.WriteText(&plain, sample(), false); err != nil {
		t.Fatal(err)
	}
	if err := lint.WriteText(&coloured, sample(), true); err != nil {
		t.Fatal(err)
	}
	var heads []string
	lines := strings.Split(strings.TrimSuffix(plain.String(), "\n"), "\n")
	for _, line := range lines {
		if m := regexp.MustCompile(`^(\S.*:\d+:\d+: [a-z]+(?: HP\d+)?(?: [a-z]+)?): `).FindStringSubmatch(line); m != nil {
			heads = append(heads, m[1])
		}
	}
	want := []string{
		"a dir/services.yml:6:22: error HP207 web", "a dir/services.yml:7:57: error HP202 web",
		"a dir/services.yml:10:20: ignored HP205 api", "a dir/services.yml:11:15: note api",
		"a dir/services.yml:12:5: warning", "/srv/bad.yml:2:11: error HP006",
	}
	if !slices.Equal(heads, want) {
		t.Errorf("%q\n%s", heads, plain.String())
	}
	// Wide characters take two columns of a terminal, and the caret stands under the value.
	excerpt := `    6 |     labels: {日本語: x, "HIVE_VIP": "10.0.0.1"}
      |                         ^
`
	if !strings.Contains(plain.String(), excerpt) {
		t.Errorf("no\n%s\nin\n%s", excerpt, plain.String())
	}
	if want := "✗ 3 errors, 1 warning, 1 unresolved, 1 ignored in 2 services of 2 files; 1 other file skipped"; lines[len(lines)-1] != want {
		t.Errorf("%q, want %q", lines[len(lines)-1], want)
	}
	if strings.Contains(plain.String(), "\x1b") || !strings.Contains(coloured.String(), "\x1b[1;31merror\x1b[0m HP207") {
		t.Errorf("colours:\n%s", coloured.String())
	}
}

func TestWriteJSON(t *testing.T) {
	var out bytes.Buffer
	if err := lint.WriteJSON(&out, sample()); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Files []struct {
			Path     string
			Services []map[string]string
			Findings []map[string]any
			Ignored  []map[string]any
		}
		Skipped []string
	}
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	web := map[string]string{"name": "web", "balance": "global", "volume": "stateless", "publish": "mesh"}
	if len(got.Files) != 2 || got.Files[0].Path != "a dir/services.yml" || len(got.Files[0].Services) != 2 ||
		!mapsEqual(got.Files[0].Services[0], web) || !slices.Equal(got.Skipped, []string{"hive.yml"}) {
		t.Errorf("%s", out.String())
	}
	first := got.Files[0].Findings[0]
	for key, want := range map[string]any{"rule": "HP207", "severity": "error", "service": "web", "line": 6.0, "column": 22.0} {
		if first[key] != want {
			t.Errorf("%s is %v, want %v", key, first[key], want)
		}
	}
	if text, _ := first["message"].(string); text == "" || len(first) != 6 {
		t.Errorf("%v", first)
	}
	if i := got.Files[0].Ignored[0]; i["reason"] != "<legacy>" || i["rule"] != "HP205" {
		t.Errorf("%v", i)
	}
	if got.Files[1].Services == nil {
		t.Error("no services is null, not []")
	}
}

func mapsEqual(a, b map[string]string) bool {
	for k := range a {
		if a[k] != b[k] {
			return false
		}
	}
	return len(a) == len(b)
}

// What is written is SARIF 2.1.0 by its schema, and says the same as the report.
func TestWriteSARIF(t *testing.T) {
	schema := compile(t)
	for name, report := range map[string]*lint.Report{"sample": sample(), "clean": lintTexts(three, one(dnsrr)), "empty": lint.Run(nil, three)} {
		var out bytes.Buffer
		if err := lint.WriteSARIF(&out, report, "v1.2.3"); err != nil {
			t.Fatal(err)
		}
		document, err := jsonschema.UnmarshalJSON(bytes.NewReader(out.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(document); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	var out bytes.Buffer
	if err := lint.WriteSARIF(&out, sample(), "v1.2.3"); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Runs []struct {
			Tool struct {
				Driver struct {
					Version string
					Rules   []struct{ ID string }
				}
			}
			Invocations []struct{ ToolExecutionNotifications []struct{ Level string } }
			Results     []struct {
				RuleID       string
				RuleIndex    int
				Level        string
				Suppressions []struct{ Kind, Justification string }
				Locations    []struct {
					PhysicalLocation struct {
						ArtifactLocation struct{ URI string }
						Region           struct{ StartLine, StartColumn int }
					}
				}
			}
		}
	}
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	run := got.Runs[0]
	if run.Tool.Driver.Version != "v1.2.3" || len(run.Tool.Driver.Rules) != len(lint.Rules()) || len(run.Results) != 4 {
		t.Fatalf("%s", out.String())
	}
	for _, r := range run.Results {
		if run.Tool.Driver.Rules[r.RuleIndex].ID != r.RuleID {
			t.Errorf("rule %s has index %d", r.RuleID, r.RuleIndex)
		}
	}
	first := run.Results[0].Locations[0].PhysicalLocation
	if run.Results[0].RuleID != "HP207" || run.Results[0].Level != "error" || first.ArtifactLocation.URI != "a%20dir/services.yml" ||
		first.Region.StartLine != 6 || first.Region.StartColumn != 22 || len(run.Results[0].Suppressions) > 0 {
		t.Errorf("%+v", run.Results[0])
	}
	if s := run.Results[2].Suppressions; len(s) != 1 || s[0].Kind != "inSource" || s[0].Justification != "<legacy>" {
		t.Errorf("%+v", run.Results[2])
	}
	if uri := run.Results[3].Locations[0].PhysicalLocation.ArtifactLocation.URI; uri != "file:///srv/bad.yml" {
		t.Errorf("%q", uri)
	}
	if n := run.Invocations[0].ToolExecutionNotifications; len(n) != 2 || n[0].Level != "warning" || n[1].Level != "note" {
		t.Errorf("%+v", n)
	}
}

func compile(t *testing.T) *jsonschema.Schema {
	t.Helper()
	f, err := os.Open("testdata/sarif-schema-2.1.0.json")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	document, err := jsonschema.UnmarshalJSON(f)
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	if err := compiler.AddResource("sarif.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("sarif.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// Directories are searched, what is no definition is skipped there and only there.
func TestLoad(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"hive.yml":                   "plugin: hive_inventory\nstages: {}\n",
		"services/b.yaml":            one(dnsrr),
		"services/a.yml":             one(dnsrr),
		"services/broken.yml":        one(dnsrr) + "   x: y\n",
		"group_vars/all.yml":         "db_password: x # for hive_services\n",
		"group_vars/broken.yml":      "a: [\n",
		"roles/tasks/main.yml":       "- debug: {}\n",
		"readme.txt":                 "plugin: hive_services\n",
		".hive/private/services.yml": one(),
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sources, err := lint.Load([]string{dir, filepath.Join(dir, "services/../services/a.yml")})
	if err != nil {
		t.Fatal(err)
	}
	r := lint.Run(sources, three)
	var files []string
	for _, f := range r.Files {
		name, err := filepath.Rel(dir, f.Path)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, name)
	}
	if want := []string{"services/a.yml", "services/b.yaml", "services/broken.yml"}; !slices.Equal(files, want) || len(r.Skipped) != 4 {
		t.Errorf("%v, skipped %v", files, r.Skipped)
	}
	named, err := lint.Load([]string{filepath.Join(dir, "hive.yml")})
	if err != nil {
		t.Fatal(err)
	}
	if r := lint.Run(named, three); len(r.Files) != 1 || r.Files[0].Findings[0].Rule != "HP006" {
		t.Errorf("%v", found(r))
	}
	if _, err := lint.Load([]string{filepath.Join(dir, "none"), filepath.Join(dir, "nor.yml"), dir}); err == nil ||
		!strings.Contains(err.Error(), "none") || !strings.Contains(err.Error(), "nor.yml") {
		t.Errorf("%v", err)
	}
}
