package recipe_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/hiveproof/hiveproof/scenarios/recipe"
)

// in wraps the keys of a service; its first line is line 5, its first key column 5.
func in(keys string) string {
	const head = "plugin: hive_services\nservices:\n  web:\n    image: nginx\n"
	return head + "    " + strings.ReplaceAll(strings.TrimSpace(keys), "\n", "\n    ") + "\n"
}

func TestProblems(t *testing.T) {
	tests := []struct {
		name string
		src  string
		want []string // "line:column: part of the message"
	}{
		// The file.
		{"empty", "", []string{`1:1: the file is empty`}},
		{"only a comment", "# nothing\n", []string{`1:1: the file is empty`}},
		{"only a document mark", "---\n", []string{`1:1: the file is empty`}},
		{"a list", "- a\n", []string{`1:1: a service definition must be a map, not a list`}},
		{"a word", "\n\nhello\n", []string{`3:1: a service definition must be a map, not "hello"`}},
		{"no plugin", "services:\n  a: {image: b}\n", []string{`1:1: no plugin`}},
		{"other plugin", "plugin: hive_inventory\nstages: {}\n", []string{`1:9: plugin must be hive_services, not "hive_inventory"`}},
		{"plugin is a list", "plugin: [hive_services]\n", []string{`1:9: plugin must be hive_services, not a list`}},
		{"no services", "plugin: hive_services\n", []string{`1:1: no services`}},
		{"services empty", "plugin: hive_services\nservices: {}\n", []string{`2:11: services is empty`}},
		{"services nothing", "plugin: hive_services\nservices:\n", []string{`2:1: services must be a map, not nothing`}},
		{"services a list", "plugin: hive_services\nservices:\n- web\n", []string{`3:1: services must be a map, not a list`}},
		{"unknown top key", "plugin: hive_services\nservice:\n  a: {image: b}\n", []string{
			`1:1: no services`, `2:1: unknown key "service" in a service definition: did you mean "services"?`}},
		{"service key on top", "plugin: hive_services\nservices:\n  a: {image: b}\nports: []\n", []string{
			`4:1: unknown key "ports" in a service definition: it belongs to a service, check the indentation`}},
		{"available_on", "plugin: hive_services\navailable_on: [private, staged]\nservices:\n  a: {image: b}\n", []string{
			`2:25: an element of available_on must be private, staging or production, not "staged"`}},

		// YAML.
		{"indentation", "plugin: hive_services\nservices:\n  a:\n    image: b\n   mode: global\n", []string{`5:4: not YAML: `}},
		{"the guide's sticky example", in("ports:\n- target_port: 443\n  protocol: tcp\n mode: host"), []string{`8:6: not YAML: `}},
		{"open quote", in(`user: "abc`), []string{`5:11: not YAML: `}},
		{"open list", in(`dns: [a, b`), []string{`5:10: not YAML: `}},
		{"template without quotes", in(`user: {{ who }}`), []string{`5:12: a map is no key (a value that begins with a template must be quoted)`}},
		{"template without quotes, text after it", in(`user: {{ who }}/x`), []string{`5:20: not YAML: while parsing a block mapping: did not find expected key (a value that begins with a template must be quoted)`}},
		{"second document", in("user: a") + "---\na: b\n", []string{`6:1: not YAML: a second document`}},
		{"no UTF-8", "plugin: \"日本\xff\"\n", []string{`1:12: not YAML: byte 0xff is no UTF-8`}},
		{"control character", "plugin: a\nb: \x00\n", []string{`2:4: not YAML: control character U+0000`}},
		{"duplicate key", in("mode: global\nuser: a\nmode: global"), []string{`7:5: key "mode" is given twice, first in line 5`}},
		{"duplicate service", in("user: a") + "  web: {image: b}\n", []string{`6:3: key "web" is given twice, first in line 3`}},
		{"duplicate in environment", in("environment:\n  A: x\n  A: y"), []string{`7:7: key "A" is given twice, first in line 6`}},
		{"unknown alias", in("user: *who"), []string{`5:11: not YAML: `}},
		{"alias of itself", in("dns: &a [*a]"), []string{`5:14: anchor &a holds an alias of itself`}},
		{"merge of a word", in("<<: hello"), []string{`5:5: << merges maps, not a string`}},
		{"tag", in("user: !!binary aGk="), []string{`5:11: tag !!binary is not read here`}},
		{"key that is no string", in("environment:\n  on: x\n  80: y"), []string{
			`6:7: key "on" is a boolean to YAML: quote it`, `7:7: key "80" is a number to YAML: quote it`}},

		// Services and their keys.
		{"unknown key", in("replica: 2"), []string{`5:5: unknown key "replica" in a service: did you mean "replicas"?`}},
		{"unknown key, swapped letters", in("volmues: []"), []string{`5:5: unknown key "volmues" in a service: did you mean "volumes"?`}},
		{"unknown key, nothing near", in("flavour: 2"), []string{`5:5: unknown key "flavour" in a service`}},
		{"the guide's first example", strings.Replace(in("from: mariadb\nroles:\n- a"), " nginx", "", 1), []string{
			`4:5: image must be a tag or a map with from, not nothing`,
			`5:5: unknown key "from" in a service: it belongs under image, check the indentation`,
			`6:5: unknown key "roles" in a service: it belongs under image, check the indentation`}},
		{"service nothing", "plugin: hive_services\nservices:\n  web:\n", []string{`3:3: a service must be a map, not nothing`}},
		{"service name", "plugin: hive_services\nservices:\n  a.b: {image: x}\n  -a: {image: x}\n", []string{
			`3:3: "a.b" is no service name`, `4:3: "-a" is no service name`}},
		{"no image", "plugin: hive_services\nservices:\n  web: {user: a}\n", []string{`3:3: service "web" has no image`}},
		{"key without a value", in("ports:\nmode:\ncommand:\nenvironment:\nreplicas:\nstandalone:"), []string{
			`5:5: ports must be a list, not nothing`, `6:5: mode must be replicated or global, not nothing`,
			`7:5: command must be a string or a list, not nothing`, `8:5: environment must be a map, not nothing`,
			`9:5: replicas must be a whole number, not nothing`, `10:5: standalone must be true or false, not nothing`}},
		{"mode", in("mode: replicate"), []string{`5:11: mode must be replicated or global, not "replicate": did you mean "replicated"?`}},
		{"endpoint_mode", in("endpoint_mode: DNSRR"), []string{`5:20: endpoint_mode must be vip or dnsrr, not "DNSRR": did you mean "dnsrr"?`}},
		{"replicas word", in("replicas: two"), []string{`5:15: replicas must be a whole number, not "two"`}},
		{"replicas none", in("replicas: 0"), []string{`5:15: replicas must be between 1 and 10000, not 0`}},
		{"replicas fraction", in("replicas: 1.5"), []string{`5:15: replicas must be a whole number, not 1.5`}},
		{"replicas too large for an int", in("replicas: 99999999999999999999"), []string{`5:15: replicas must be between`}},
		{"standalone", in(`standalone: "true"`), []string{`5:17: standalone must be true or false, not "true"`}},
		{"environment types", in("environment:\n  A: yes\n  B: 1000\n  C:\n  D: [x]\n  E: 2024-01-02"), []string{
			`6:10: environment "A" must be a string, and yes is a boolean to YAML: quote it`,
			`7:10: environment "B" must be a string, and 1000 is a number to YAML: quote it`,
			`8:7: environment "C" must be a string, not nothing`,
			`9:10: environment "D" must be a string, not a list`,
			`10:10: environment "E" must be a string, and 2024-01-02 is a date to YAML: quote it`}},
		{"environment list", in("environment:\n- A=1\n- B\n- A=2\n- =x"), []string{
			`7:7: an element of environment must be NAME=value, not "B"`,
			`8:7: environment "A" is given twice`, `9:7: an element of environment must be NAME=value, not "=x"`}},
		{"command", in("command: {a: b}"), []string{`5:14: command must be a string or a list, not a map`}},
		{"command element", in("command:\n- yes\n- []"), []string{
			`6:7: an element of command must be a string, and yes is a boolean to YAML: quote it`,
			`7:7: an element of command must be a string, not a list`}},
		{"entrypoint quote", in(`entrypoint: sh -c 'a`), []string{`5:17: entrypoint has a quote that does not end`}},
		{"stop_grace_period", in("stop_grace_period: 10"), []string{`5:24: stop_grace_period must be a duration such as 10s or 1m30s, not 10`}},
		{"stop_grace_period negative", in("stop_grace_period: -1s"), []string{`5:24: stop_grace_period must be a duration`}},
		{"mem_limit", in("mem_limit: 1 GB"), []string{`5:16: mem_limit must be a size`}},
		{"cpu_limit", in("cpu_limit: 0"), []string{`5:16: cpu_limit must be a number of CPUs such as 0.5, not 0`}},
		{"constraint", in("placement:\n  constraints:\n  - node.role = manager\n  preference: []"), []string{
			`7:9: a constraint must be key==value or key!=value, not "node.role = manager"`,
			`8:7: unknown key "preference" in placement: did you mean "preferences"?`}},
		{"logging", in("logging: journald"), []string{`5:14: logging must be a map, not "journald"`}},
		{"restart_config", in("restart_config: {condition: always, delay: 5}"), []string{
			`5:33: condition must be any, on-failure or none, not "always"`, `5:48: delay must be a duration`}},
		{"healthcheck", in("healthcheck: {tests: a, retries: -1}"), []string{
			`5:19: unknown key "tests" in healthcheck: did you mean "test"?`, `5:38: retries must be between 0 and 1000, not -1`}},
		{"networks of a service", in("networks:\n- {alias: a}\n- 5"), []string{
			`6:7: an element of networks has no name`, `6:8: unknown key "alias" in an element of networks`,
			`7:7: an element of networks must be a string, and 5 is a number`}},
		{"networks of the file", in("user: a") + "networks:\n  n: {drivers: x}\n", []string{`7:7: unknown key "drivers" in a network: did you mean "driver"?`}},
		{"available_on of a service", in("available_on: production"), []string{`5:19: available_on must be a list, not "production"`}},
		{"backup_scripts", in("backup_scripts:\n- dump"), []string{`6:7: an element of backup_scripts must be a map, not "dump"`}},

		// Images.
		{"image empty", strings.Replace(in("user: a"), "nginx", `""`, 1), []string{`4:12: image is empty`}},
		{"image list", strings.Replace(in("user: a"), "nginx", `[a]`, 1), []string{`4:12: image must be a tag or a map with from, not a list`}},
		{"image without from", strings.Replace(in("user: a"), "nginx", `{roles: [a], form: x}`, 1), []string{
			`4:12: image needs from`, `4:25: unknown key "form" in image: did you mean "from"?`}},
		{"pull_from without pull_on", strings.Replace(in("user: a"), "nginx", `{from: a, pull_from: b}`, 1), []string{`4:33: pull_from needs pull_on`}},

		// Ports.
		{"port number", in("ports:\n- 80"), []string{`6:7: port 80 is a number to YAML and hive-builder takes strings and maps: quote it`}},
		{"port in base 60", in("ports:\n- 22:22"), []string{`6:7: port 22:22 is a number to YAML`}},
		{"port range", in("ports:\n- \"8000-8010:80\""), []string{`6:7: port "8000-8010:80": hive-builder takes no ranges`}},
		{"port address", in("ports:\n- 127.0.0.1:80:80"), []string{`6:7: port "127.0.0.1:80:80": hive-builder publishes on every address`}},
		{"port word", in("ports:\n- http"), []string{`6:7: a port must be such as "80", "8080:80" or "53:53/udp", not "http"`}},
		{"port protocol", in("ports:\n- \"53/icmp\"\n- \"53/\""), []string{
			`6:7: the protocol of port "53/icmp" must be tcp, udp or sctp, not "icmp"`,
			`7:7: the protocol of port "53/" must be tcp, udp or sctp, not ""`}},
		{"port out of range", in("ports:\n- \"0\"\n- \"65536:80\"\n- \"80:99999999999999999999\""), []string{
			`6:7: the target of port "0" must be between 1 and 65535`,
			`7:7: the published number of port "65536:80" must be`,
			`8:7: the target of port "80:99999999999999999999" must be`}},
		{"port list", in("ports:\n- [80]\nuser: a"), []string{`6:7: a port must be a string such as "8080:80/tcp" or a map, not a list`}},
		{"long port", in("ports:\n- published_port: 70000\n  protocol: TCP\n  mode: hosts\n  target: 80"), []string{
			`6:7: a port needs target_port`, `6:23: published_port must be between 1 and 65535, not 70000`,
			`7:17: protocol must be tcp, udp or sctp, not "TCP": did you mean "tcp"?`,
			`8:13: mode must be ingress or host, not "hosts": did you mean "host"?`,
			`9:7: unknown key "target" in a port`}},
		{"ports map", in("ports: {target_port: 80}"), []string{`5:12: ports must be a list, not a map`}},

		// Volumes.
		{"volume short", in("volumes:\n- data:/data"), []string{`6:7: volume "data:/data" is in short syntax, which hive-builder refuses`}},
		{"volume without", in("volumes:\n- type: volume"), []string{`6:7: a volume needs source`, `6:7: a volume needs target`}},
		{"volume list", in("volumes:\n- [a]"), []string{`6:7: a volume must be a map, not a list`}},
		{"volume unknown key", in("volumes:\n- source: a\n  target: /a\n  driver: local\n  driver_options: {type: nfs}"), []string{
			`9:7: unknown key "driver_options" in a volume: did you mean "driver_opts"?`}},
		{"volume type", in("volumes:\n- {source: a, target: /a, type: volumes}"), []string{`6:37: type must be volume, bind or tmpfs, not "volumes": did you mean "volume"?`}},
		{"volume readonly", in("volumes:\n- {source: a, target: /a, readonly: 1}"), []string{`6:41: readonly must be true or false, not 1`}},
		{"volume of two kinds", in("volumes:\n- source: a\n  target: /a\n  nfs: {}\n  drbd: {size: 1G, fstype: xfs}"), []string{
			`9:7: a volume has at most one of drbd, nfs and driver, and this one has nfs already`}},
		{"volume of three kinds", in("volumes:\n- source: a\n  target: /a\n  driver: x\n  nfs: {}\n  drbd: {size: 1G, fstype: xfs}"), []string{
			`9:7: a volume has at most one of drbd, nfs and driver, and this one has driver already`}},
		{"drbd", in("volumes:\n- source: a\n  target: /a\n  drbd:\n    fstype: btrfs\n    size: 500\n    device_id: 256\n    disk: x"), []string{
			`9:17: fstype must be xfs or ext4, not "btrfs"`, `10:15: size needs a unit, such as 500M`,
			`11:20: device_id must be between 1 and 255, not 256`, `12:9: unknown key "disk" in drbd`}},
		{"drbd size", in("volumes:\n- {source: a, target: /a, drbd: {fstype: xfs, size: big}}"), []string{`6:57: size must be a size such as 500M or 20G, not "big"`}},
		{"drbd without", in("volumes:\n- {source: a, target: /a, drbd: {}}"), []string{`6:37: drbd needs fstype`, `6:37: drbd needs size`}},
		{"drbd on a bind", in("volumes:\n- {source: /a, target: /a, type: bind, drbd: {fstype: xfs, size: 1G}}"), []string{`6:38: type must be volume with drbd, not bind`}},
		{"nfs", in("volumes:\n- {source: a, target: /a, nfs: {sizes: 1G}}"), []string{`6:37: unknown key "sizes" in nfs: did you mean "size"?`}},
		{"target relative", in("volumes:\n- {source: a, target: a}"), []string{`6:27: target must be an absolute path, not "a"`}},
		{"bind of a name", in("volumes:\n- {source: a, target: /a, type: bind}"), []string{`6:16: source of a bind volume must be an absolute path, not "a"`}},
		{"volume of a path", in("volumes:\n- {source: /a, target: /a, type: volume}"), []string{`6:16: source of a volume must be a name, not "/a"`}},
		{"source empty", in("volumes:\n- {source: '', target: /a}"), []string{`6:16: source is empty`}},

		// Positions that are easy to get wrong.
		{"after Japanese text", in("labels: {名前: \"二つ\", 値: [x]}\nenvironment: {日本: 1}"), []string{`6:23: environment "日本" must be a string`}},
		{"after CRLF", strings.ReplaceAll(in("user: a\nmode: x"), "\n", "\r\n"), []string{`6:11: mode must be`}},
		{"after a byte order mark", "\ufeff" + in("mode: x"), []string{`5:11: mode must be`}},
		{"after block scalars", in("environment:\n  A: |\n    one\n    two\n  B: >-\n    three\n\n    four\nmode: x"), []string{`13:11: mode must be`}},
		{"after quoted lines", in("user: \"a\n  b\n\n  c\"\nmode: x"), []string{`9:11: mode must be`}},
		{"after plain lines", in("user: a\n  b\n  c\nmode: x"), []string{`8:11: mode must be`}},
		{"after comments", in("# one\nuser: a # two\n\n# three\nmode: x # four"), []string{`9:11: mode must be`}},
		{"through an alias", "plugin: hive_services\nservices:\n  a: &a\n    image: x\n    mode: y\n  b: *a\n", []string{`5:11: mode must be`}},
		{"through a merge", "plugin: hive_services\nservices:\n  a: &a\n    image: x\n    mode: y\n  b:\n    <<: *a\n    user: z\n", []string{`5:11: mode must be`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := recipe.Parse("a/services.yml", []byte(tt.src))
			if err == nil {
				t.Fatalf("no error for\n%s", tt.src)
			}
			if r != nil {
				t.Error("a recipe beside the error")
			}
			var problems recipe.Problems
			if !errors.As(err, &problems) {
				t.Fatalf("%T is no Problems: %v", err, err)
			}
			if len(problems) != len(tt.want) {
				t.Fatalf("got\n%v\nwant\n%s\nof\n%s", err, strings.Join(tt.want, "\n"), tt.src)
			}
			for i, want := range tt.want {
				if got := problems[i].Error(); !strings.HasPrefix(got, "a/services.yml:"+want) {
					t.Errorf("got  %s\nwant %s\nof\n%s", got, want, tt.src)
				}
			}
		})
	}
}
