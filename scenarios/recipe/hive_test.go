package recipe_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hiveproof/hiveproof/scenarios/recipe"
)

func TestParseHive(t *testing.T) {
	h, err := recipe.ParseHive("hive.yml", []byte(`plugin: hive_inventory
name: pdns.example
stages:
  private:
    provider: vagrant
    separate_repository: False
    cidr: 192.168.56.0/24
    memory_size: 4096
    mirrored_disk_size: 10
  staging:
    provider: prepared
    cidr: 192.168.57.0/24
    number_of_hosts: "{{ hosts }}"
    ip_address_list: [192.168.57.5, 192.168.57.6]
  production:
    provider: aws
    cidr: 192.168.58.0/24
    subnets: [{cidr: 192.168.58.0/26}]
`), map[string]string{"hosts": "2"})
	if err != nil {
		t.Fatal(err)
	}
	if h.Name != "pdns.example" || len(h.Stages) != 3 || h.Stage("other") != nil {
		t.Errorf("%+v", h)
	}
	for name, want := range map[string][2]int{"private": {3, 3}, "staging": {2, 1}, "production": {4, 3}} {
		s := h.Stage(name)
		if got := [2]int{s.Hosts, s.ContainerHosts()}; got != want || s.Name != name || s.Provider == "" {
			t.Errorf("%s has %v hosts, want %v", name, got, want)
		}
	}
	if at := h.Stage("staging").Position.String(); at != "hive.yml:10:3" {
		t.Errorf("staging is at %s", at)
	}
}

func TestHiveProblems(t *testing.T) {
	stage := func(keys string) string {
		return "plugin: hive_inventory\nname: a\nstages:\n  private: {provider: vagrant, cidr: 10.0.0.0/24, " + keys + "}\n"
	}
	tests := []struct{ name, src, want string }{
		{"empty", "", "f:1:1: the file is empty"},
		{"a list", "- a", "f:1:1: a hive definition must be a map, not a list"},
		{"not YAML", "a: 'b", "f:1:4: not YAML: "},
		{"no plugin", "name: a\n", "f:1:1: no plugin: a hive definition says plugin: hive_inventory"},
		{"services", "plugin: hive_services\n", `f:1:9: plugin must be hive_inventory, not "hive_services"`},
		{"no name", "plugin: hive_inventory\nstages: {private: {provider: gcp, cidr: x}}\n", "f:1:1: a hive definition needs name"},
		{"no stages", "plugin: hive_inventory\nname: a\n", "f:1:1: a hive definition needs stages"},
		{"stages empty", "plugin: hive_inventory\nname: a\nstages: {}\n", "f:3:9: stages is empty"},
		{"stages a list", "plugin: hive_inventory\nname: a\nstages: [private]\n", "f:3:9: stages must be a map, not a list"},
		{"unknown stage", "plugin: hive_inventory\nname: a\nstages: {test: {}}\n", `f:3:10: a stage must be private, staging or production, not "test"`},
		{"stage a word", "plugin: hive_inventory\nname: a\nstages: {private: vagrant}\n", `f:3:19: a stage must be a map, not "vagrant"`},
		{"provider", strings.Replace(stage("cpus: 1"), "vagrant", "virtualbox", 1), `f:4:23: provider must be vagrant, `},
		{"no cidr", strings.Replace(stage("cpus: 1"), "cidr", "net", 1), "f:4:12: stage private needs cidr"},
		{"separate_repository", stage("separate_repository: maybe"), `f:4:72: separate_repository must be true or false, not "maybe"`},
		{"hosts a word", stage("number_of_hosts: many"), `f:4:68: number_of_hosts must be a whole number, not "many"`},
		{"no host", stage("number_of_hosts: 0"), "f:4:68: number_of_hosts must be between 1 and 1000, not 0"},
		{"only the repository", stage("number_of_hosts: 1"), "f:4:68: stage private has no host that holds containers"},
		{"no addresses", stage("ip_address_list: []"), "f:4:68: stage private has no host that holds containers"},
		{"addresses a word", stage("ip_address_list: x"), `f:4:68: ip_address_list must be a list, not "x"`},
		{"two numbers", stage("number_of_hosts: 4, ip_address_list: [a, b]"), "f:4:68: number_of_hosts is 4 and ip_address_list has 2 addresses"},
		{"a template", stage("number_of_hosts: '{{ n }}'"), `f:4:68: "{{ n }}" is a template that no variable resolves`},
	}
	for _, tt := range tests {
		h, err := recipe.ParseHive("f", []byte(tt.src), nil)
		if h != nil || err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
	}
}

func TestParseHiveFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hive.yml")
	if _, err := recipe.ParseHiveFile(path, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if err := os.WriteFile(path, []byte("plugin: hive_inventory\nname: a\nstages: {production: {provider: aws, cidr: 10.0.0.0/24}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if h, err := recipe.ParseHiveFile(path, nil); err != nil || h.Stage("production").ContainerHosts() != 3 {
		t.Errorf("%+v, %v", h, err)
	}
}
