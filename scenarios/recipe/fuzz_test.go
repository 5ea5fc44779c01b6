package recipe

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

// everyKey has each key of the dialect.
const everyKey = `plugin: hive_services
available_on: [private, staging]
networks:
  hive_default_network:
  backend:
    driver: overlay
    driver_opts: {encrypted: "true", mtu: 1400}
    ipam: {config: [{subnet: 10.1.0.0/24}]}
services:
  all:
    image:
      from: "mariadb:10.4"
      roles: [python-aptk, initdb]
      env: {LANG: C}
      stop_signal: 2
      user: 999
      working_dir: /srv
      standalone: no
      privileged: yes
      entrypoint: /entry.sh -x "a b"
      command: [--port, 5000, ""]
      expose: [80, "53/udp"]
      pull_on: [production]
      pull_from: registry.example/mariadb:10.4
    available_on: [production]
    backup_scripts:
    - {name: dump, backup_command: "mysqldump -p{{db_password}}", cleanup_days_before: 10}
    cap_add: [NET_ADMIN]
    cap_drop: [ALL]
    command: --api=yes,--api-key={{ db_password }}
    cpu_limit: 0.5
    dns: 192.168.1.2
    endpoint_mode: dnsrr
    entrypoint: sh -c 'echo "a b"'
    environment: {A: "1", B: "{{ b | default('x') }}"}
    healthcheck: {test: [CMD, "true"], interval: 10s, timeout: 3s, start_period: 1m30s, retries: 3}
    hosts: {test.example.com: 192.168.1.2}
    ignore_error: ["Error handling /(favicon.ico)"]
    initialize_roles: [python-aptk]
    labels: {HIVE_VIP: 192.168.56.101, HIVE_DNAT_PORTS: 80, on_off: yes, nested: {a: [1, null]}}
    logging: {driver: journald, options: {tag: all, max-file: 3}}
    mem_limit: 512M
    mode: replicated
    monitor_error: [Error]
    networks: [backend, {name: hive_default_network, aliases: [db]}]
    placement:
      constraints: ["node.labels.proxy == true", node.hostname!=hive2]
      preferences: [{spread: node.labels.zone}]
      replicas_max_per_node: 1
    ports: ["80", "8080:80", "53:53/udp", {target_port: 443, published_port: "8443", protocol: sctp, mode: host}]
    replicas: 3
    restart_config: {condition: on-failure, delay: 5s, max_attempts: 3, window: 120s}
    standalone: False
    stop_grace_period: 1m30s
    sysctls: {net.core.somaxconn: 1024}
    user: 1000
    volumes:
    - {source: data, target: /data, type: volume, readonly: true, drbd: {fstype: ext4, size: 20G, diskless: [hive2.pdns], device_id: 7}}
    - {source: files, target: /files, nfs: {size: 120G}}
    - {source: shared, target: /shared, driver: local, driver_opts: {type: nfs, device: ":/x", o: "addr=192.168.56.20"}}
    - {source: /var/run/docker.sock, target: /var/run/docker.sock}
    - {source: "", target: /tmp, type: tmpfs}
    working_dir: /srv
`

func FuzzParse(f *testing.F) {
	f.Add([]byte(everyKey))
	f.Add([]byte(""))
	f.Add([]byte("plugin: hive_services\nservices:\n  a: &a {image: b, <<: {mode: global}}\n  b: {<<: *a}\n  c: *a\n"))
	f.Add([]byte("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"))
	f.Add([]byte("plugin: hive_services\r\nservices:\r\n  a:\r\n    image: |\r\n      b\r\n    ports: ['80', 53:53]\r\n"))
	f.Add([]byte("plugin: hive_services\nservices: {a: {image: {{x}}}}\n"))
	f.Add([]byte("? [a]\n: !!map {}\n--- !vault |\n  x\n...\n%YAML 1.2\n"))
	recipes, err := filepath.Glob("../recipes/*.yml")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range recipes {
		src, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src)
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		r, problems := ParsePartial("f", src)
		inFile := placesOf(src)
		checkProblems(t, problems, inFile)
		if strict, err := Parse("f", src); (err == nil) != (len(problems) == 0) || (strict == nil) != (err != nil) {
			t.Fatalf("Parse gave %v, %v beside %v", strict, err, problems)
		}
		if len(problems) == 0 && len(r.Services) == 0 {
			t.Fatal("a recipe without services or problems")
		}
		checkServices(t, r, inFile)
		for _, c := range r.Comments() {
			if line := []rune(r.Line(c.Position.Line)); c.Position.Column > len(line) || line[c.Position.Column-1] != '#' {
				t.Fatalf("comment %+v in line %q", c, string(line))
			}
		}
		unresolved := len(r.Unresolved())
		for _, s := range r.Services {
			for _, p := range s.Ports {
				if p.Published == 0 && len(problems) == 0 && unresolved == 0 {
					t.Fatalf("port %+v without a number", p)
				}
			}
		}
		before := len(r.Services)
		checkProblems(t, r.ResolvePartial(map[string]string{"x": "2", "db_password": "secret"}), inFile)
		checkServices(t, r, inFile)
		if len(r.Services) != before && len(problems) < maxProblems {
			t.Fatal("ResolvePartial changed the number of services")
		}
		for _, u := range r.Unresolved() {
			if !inFile(u.Position) {
				t.Fatalf("unresolved %+v", u)
			}
		}
	})
}

// placesOf tells the places in a file from others.
func placesOf(src []byte) func(Position) bool {
	lines := strings.Count(string(unify(src)), "\n") + 1
	return func(p Position) bool { return p.Line >= 1 && p.Line <= lines && p.Column >= 1 && p.File == "f" }
}

func checkProblems(t *testing.T, problems Problems, inFile func(Position) bool) {
	t.Helper()
	for i, p := range problems {
		if !inFile(p.Position()) || p.Message == "" || !utf8.ValidString(p.Message) || p.Rule == "" {
			t.Fatalf("problem %+v", p)
		}
		if i > 0 && p.Line < problems[i-1].Line {
			t.Fatalf("problems out of order: %v", problems)
		}
	}
}

// checkServices asks everything that may be asked of services.
func checkServices(t *testing.T, r *Recipe, inFile func(Position) bool) {
	t.Helper()
	for _, s := range append(r.Services, r.ForStage("staging").Services...) {
		places := []Position{s.Position, s.At("image"), s.ValueAt("image")}
		for _, v := range s.Volumes {
			places = append(places, v.Position, v.ValueAt("type"))
			v.Known("type")
			if v.DRBD != nil {
				places = append(places, v.DRBD.At("size"), v.DRBD.ValueAt("size"))
				v.DRBD.Known("size")
			}
		}
		for _, p := range s.Ports {
			places = append(places, p.Position, p.ValueAt("mode"))
			p.Known("mode")
		}
		for _, p := range s.Labels {
			places = append(places, p.Position, p.ValuePosition)
		}
		for _, p := range places {
			if !inFile(p) {
				t.Fatalf("service %q has something at %+v", s.Name, p)
			}
		}
		s.Known("mode")
		s.Raw("labels")
		Classify(s, 3).Supported()
	}
}

func FuzzParseVars(f *testing.F) {
	for _, src := range []string{"a: 1\n", "a: {b: c}\nd: [e]\n", "a: &a yes\nb: *a\nc: !vault |\n  1\n", "- a\n", "1: a\n", "a: 0x1F\nb: 1_0:59\nc: .5\n", "<<: {a: b}\n"} {
		f.Add([]byte(src), "{{ a }}-{{b}}")
	}
	f.Fuzz(func(t *testing.T, src []byte, text string) {
		vars, err := ParseVars("f", src)
		if err != nil {
			var problems Problems
			if vars != nil || !errors.As(err, &problems) || len(problems) == 0 {
				t.Fatalf("ParseVars gave %v, %v", vars, err)
			}
			checkProblems(t, problems, placesOf(src))
			return
		}
		fill(&node{kind: kindString, text: text}, vars)
	})
}

func FuzzParseHive(f *testing.F) {
	for _, src := range []string{"plugin: hive_inventory\nname: a\nstages: {private: {provider: vagrant, cidr: 10.0.0.0/24, number_of_hosts: '{{ n }}'}}\n",
		"plugin: hive_inventory\nname: a\nstages:\n  staging:\n    provider: prepared\n    cidr: x\n    separate_repository: no\n    ip_address_list: [a, b]\n"} {
		f.Add([]byte(src))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		h, err := ParseHive("f", src, map[string]string{"n": "3"})
		if err != nil {
			var problems Problems
			if h != nil || !errors.As(err, &problems) || len(problems) == 0 {
				t.Fatalf("ParseHive gave %v, %v", h, err)
			}
			checkProblems(t, problems, placesOf(src))
			return
		}
		for _, s := range h.Stages {
			if s.ContainerHosts() < 1 {
				t.Fatalf("stage %+v without a host", s)
			}
		}
	})
}

func FuzzParseTagMapping(f *testing.F) {
	for _, src := range []string{`{}`, `{"a:1": "b:2"}`, `{"a": ["b"]}`, `{"a" "b"}`, "\ufeff{}", `{"a":"b","a":"c"} x`, `{1:2}`} {
		f.Add([]byte(src))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		m, err := ParseTagMapping("f", src)
		if err == nil {
			for from := range m {
				if to, ok := m.Apply(from); !ok || to == "" {
					t.Fatalf("%q is mapped to %q, %v", from, to, ok)
				}
			}
			return
		}
		var problems Problems
		if m != nil || !errors.As(err, &problems) || problems[0].Line < 1 || problems[0].Column < 1 {
			t.Fatalf("ParseTagMapping gave %v, %v", m, err)
		}
	})
}
