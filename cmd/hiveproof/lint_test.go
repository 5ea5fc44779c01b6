package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hiveproof/hiveproof/scenarios/recipe/lint"
)

// project is a directory with a hive-builder project of one broken service.
func project(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"hive.yml": `plugin: hive_inventory
name: site
stages:
  private: {provider: vagrant, cidr: 192.168.0.0/24, number_of_hosts: 1, separate_repository: false}
  production: {provider: aws, cidr: 192.168.1.0/24}
`,
		"vars.yml": "mode: global\n",
		"services.yml": `plugin: hive_services
services:
  db:
    image: mariadb:10.4
    endpoint_mode: dnsrr
    available_on: [private, production]
    volumes:
    - {source: db, target: /var/lib/mysql, type: volume}
  test:
    image: nginx
    available_on: [private]
    endpoint_mode: vip
  web:
    image: nginx
    mode: "{{ mode }}"
    endpoint_mode: dnsrr
    available_on: [production]
`,
		"broken.yml": "plugin: hive_services\nservices: [\n",
		"clean.yml":  "plugin: hive_services\nservices:\n  web: {image: nginx, endpoint_mode: dnsrr}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestLintCommand(t *testing.T) {
	dir := project(t)
	services, hive := filepath.Join(dir, "services.yml"), filepath.Join(dir, "hive.yml")
	for _, test := range []struct {
		args []string
		code int
		want string // part of the output
	}{
		{[]string{services}, 1, services + ":8:50: error HP102 db: "},
		{[]string{services, "--hosts", "1"}, 0, "! 0 errors, 1 warning, 1 unresolved in 3 services"},
		{[]string{services, "--hosts", "1", "--strict"}, 1, ":12:20: warning HP205 test: "},
		{[]string{services, "--hive", hive}, 1, "HP102"},
		{[]string{services, "--hive", hive, "--stage", "production"}, 1, "HP102"},
		{[]string{services, "--hive", hive, "--stage", "private"}, 0, "! 0 errors, 1 warning in 2 services"},
		{[]string{services, "--hosts", "1", "--stage", "production", "--strict"}, 1, "1 unresolved in 2 services"},
		{[]string{services, "--hosts", "1", "--stage", "production", "--strict", "--vars", filepath.Join(dir, "vars.yml")}, 0, "✓ 0 errors, 0 warnings in 2 services"},
		{[]string{filepath.Join(dir, "clean.yml"), "--strict"}, 0, "✓ 0 errors, 0 warnings in 1 service of 1 file"},
		{[]string{dir}, 1, "in 4 services of 3 files; 2 other files skipped"},
		{[]string{hive}, 1, "HP006"},
		{[]string{services, "--format", "sarif"}, 1, `"version": "2.1.0"`},
		{[]string{"--explain", "HP204"}, 0, "# HP204: "},
		{[]string{"--explain", "hp001"}, 0, "# HP001: "},
	} {
		code, stdout, stderr := newDirs(t).program(t, append([]string{"lint"}, test.args...)...)
		if code != test.code || stderr != "" || !strings.Contains(stdout, test.want) {
			t.Errorf("%v: exit %d, %q, message %q; want exit %d and %q", test.args, code, stdout, stderr, test.code, test.want)
		}
	}
	_, stdout, _ := newDirs(t).program(t, "lint", "--format", "json", services)
	var report lint.Report
	if err := json.Unmarshal([]byte(stdout), &report); err != nil || len(report.Files) != 1 || len(report.Files[0].Findings) != 2 {
		t.Errorf("%v: %s", err, stdout)
	}
}

func TestLintUsage(t *testing.T) {
	dir := project(t)
	services, hive := filepath.Join(dir, "services.yml"), filepath.Join(dir, "hive.yml")
	empty := t.TempDir()
	for _, test := range []struct{ args, want string }{
		{"lint", "arg"},
		{"lint " + empty, "no service definition in " + empty},
		{"lint " + empty + "/none.yml", "none.yml"},
		{"lint --explain HP999", "the rules are HP001, HP002"},
		{"lint --explain HP001 " + services, "unknown command"},
		{"lint --format xml " + services, "text, json, sarif"},
		{"lint --hosts 0 " + services, "at least one host"},
		{"lint --stage test " + services, "private, staging, production"},
		{"lint --hosts 3 --hive " + hive + " " + services, "hive"},
		{"lint --hive " + hive + " --stage staging " + services, "no such stage"},
		{"lint --hive " + services + " " + services, services + ":1:9: "},
		{"lint --vars " + empty + "/none.yml " + services, "none.yml"},
		{"explain", "arg"},
		{"explain " + empty, "no service definition"},
		{"explain " + filepath.Join(dir, "broken.yml"), "broken.yml:3:1: "},
	} {
		code, stdout, stderr := newDirs(t).program(t, strings.Fields(test.args)...)
		if code != exitUsage || stdout != "" || !strings.Contains(stderr, test.want) {
			t.Errorf("%s: exit %d, %q, message %q; want %q", test.args, code, stdout, stderr, test.want)
		}
	}
}

func TestExplain(t *testing.T) {
	services := filepath.Join(project(t), "services.yml")
	text := good(t, "explain", "--hosts", "1", services)
	for _, want := range []string{
		"SERVICE  BALANCE    VOLUME     PUBLISH   CLAIMS\n",
		"db       singleton  service    internal  2\n",
		"web      unknown    stateless  internal  2\n",
		"\ndb\n  ✓ internal/not-exposed",
		"  – mesh/balances                  is for mesh + scalable, and this service is internal and singleton\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	var out struct {
		Hosts    int
		Services []struct {
			File, Name, Balance, Volume, Publish string
			Claims                               []string
			Without                              []struct{ Claim, Why string } `json:"not_derived"`
		}
	}
	if err := json.Unmarshal([]byte(good(t, "explain", "--json", services)), &out); err != nil {
		t.Fatal(err)
	}
	if len(out.Services) != 3 || out.Hosts != 3 || out.Services[0].Volume != "host" || len(out.Services[0].Claims) != 2 || len(out.Services[0].Without) == 0 {
		t.Errorf("%+v", out)
	}
}
