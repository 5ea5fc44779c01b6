package topology

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func TestDefault(t *testing.T) {
	top := Default()
	if len(top.Hosts) != 4 || len(top.Swarm()) != 3 || len(top.Clients) != 3 {
		t.Fatalf("got %d hosts, %d of them in the swarm, and %d clients, want 4, 3 and 3", len(top.Hosts), len(top.Swarm()), len(top.Clients))
	}
	if edge := top.Edge(); edge == nil || edge.Name != "edge" || edge.Addr != netip.MustParseAddr("192.168.56.20") || edge.Manager || edge.MemoryMiB != 512 {
		t.Errorf("edge host: got %+v", edge)
	}
	if !top.Perimeter {
		t.Error("want a perimeter")
	}
	for i, want := range []string{"192.168.56.11", "192.168.56.12", "192.168.56.13"} {
		if got := top.Hosts[i]; got.Addr != netip.MustParseAddr(want) || !got.Manager || got.MemoryMiB != 1024 {
			t.Errorf("host %d: got %+v, want a manager of 1024 MiB at %s", i, got, want)
		}
	}
	if !top.OnSegment(top.Clients[0]) || top.OnSegment(top.Clients[1]) || top.OnSegment(top.Clients[2]) {
		t.Error("want the first client on the segment and the others outside")
	}
	if top.Clients[1].Network == top.Clients[2].Network {
		t.Error("the outside clients are in one network")
	}
}

func TestParseFillsDefaults(t *testing.T) {
	top, err := Parse("t.yml", []byte("hosts:\n  - {}\n  - memory: 2g\n    disks: [1GiB]\n  - {}\n  - {}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if top.Hosts[1].Name != "hive1" || top.Hosts[1].MemoryMiB != 2048 || len(top.Hosts[1].DisksMiB) != 1 {
		t.Errorf("second host: %+v", top.Hosts[1])
	}
	if top.Hosts[2].Manager != true || top.Hosts[3].Manager != false {
		t.Error("want the first three hosts as managers and the fourth as worker")
	}
	if len(top.Clients) != 3 {
		t.Errorf("got %d clients, want the three default ones", len(top.Clients))
	}
}

func TestEdge(t *testing.T) {
	for name, test := range map[string]struct {
		src      string
		swarm    string // names and addresses; managers have a star
		edge     string // the same; empty for none
		position int    // of the edge among all hosts
	}{
		"none":          {"hosts: [{}, {role: worker}]", "hive0 192.168.56.11*, hive1 192.168.56.12", "", 0},
		"last":          {"hosts: [{}, {role: edge}]", "hive0 192.168.56.11*", "edge 192.168.56.20", 1},
		"named":         {"hosts: [{}, {role: edge, name: lb, address: 192.168.56.30}]", "hive0 192.168.56.11*", "lb 192.168.56.30", 1},
		"another site":  {"site: {cidr: 10.1.0.0/26}\nhosts: [{}, {role: edge}]", "hive0 10.1.0.11*", "edge 10.1.0.20", 1},
		"first of five": {"hosts: [{role: edge}, {}, {}, {}, {}]", "hive0 192.168.56.11*, hive1 192.168.56.12*, hive2 192.168.56.13*, hive3 192.168.56.14", "edge 192.168.56.20", 0},
		"eight others": {"hosts: [{}, {}, {}, {role: worker}, {role: worker}, {role: worker}, {role: worker}, {role: worker}, {role: edge}]",
			"hive0 192.168.56.11*, hive1 192.168.56.12*, hive2 192.168.56.13*, hive3 192.168.56.14, hive4 192.168.56.15, hive5 192.168.56.16, hive6 192.168.56.17, hive7 192.168.56.18",
			"edge 192.168.56.20", 8},
	} {
		t.Run(name, func(t *testing.T) {
			top, err := Parse("t.yml", []byte(test.src))
			if err != nil {
				t.Fatal(err)
			}
			describe := func(h Host) string {
				text := h.Name + " " + h.Addr.String()
				if h.Manager {
					text += "*"
				}
				return text
			}
			var swarm []string
			for _, h := range top.Swarm() {
				swarm = append(swarm, describe(h))
			}
			if got := strings.Join(swarm, ", "); got != test.swarm {
				t.Errorf("swarm %s\nwant  %s", got, test.swarm)
			}
			edge := top.Edge()
			if test.edge == "" {
				if edge != nil {
					t.Errorf("edge host %+v, want none", edge)
				}
				return
			}
			if edge == nil || describe(*edge) != test.edge || edge != &top.Hosts[test.position] {
				t.Errorf("edge host %+v, want %s", edge, test.edge)
			}
			if len(top.Hosts) != 1+len(top.Swarm()) || !top.Hosts[test.position].Edge {
				t.Error("Swarm changed the topology's own hosts")
			}
		})
	}
}

func TestPerimeter(t *testing.T) {
	for src, want := range map[string]bool{
		"hosts: [{}]":                           false,
		"site: {perimeter: false}\nhosts: [{}]": false,
		"site: {perimeter: true}\nhosts: [{}]":  true,
	} {
		if top, err := Parse("t.yml", []byte(src)); err != nil || top.Perimeter != want {
			t.Errorf("%s: %+v, %v; want a perimeter: %t", src, top, err, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		src  string
		want string // prefix of the message, with its position
	}{
		"not yaml":        {"hosts: [", "t.yml:1:"},
		"empty":           {"", "t.yml: "},
		"unknown key":     {"hosts:\n  - nam: x\n", "t.yml:2:5: unknown field"},
		"wrong type":      {"hosts:\n  - cpus: many\n", "t.yml:2:11: "},
		"no hosts":        {"name: x\nhosts: []\n", "t.yml:2:8: 0 hosts"},
		"memory no size":  {"hosts:\n  - memory: lots\n", `t.yml:2:13: memory of hive0: "lots"`},
		"little memory":   {"hosts:\n  - memory: 64MiB\n", "t.yml:2:13: memory of hive0: 64MiB is too little"},
		"bad address":     {"hosts:\n  - address: 10.0.0.1\n", `t.yml:2:14: address "10.0.0.1" of hive0`},
		"same address":    {"hosts:\n  - {}\n  - address: 192.168.56.11\n", "t.yml:3:"},
		"router address":  {"hosts:\n  - address: 192.168.56.1\n", "t.yml:2:"},
		"same name":       {"hosts:\n  - name: a\n  - name: a\n", `t.yml:3:11: name "a" is given twice`},
		"bad name":        {"hosts:\n  - name: A_b\n", "t.yml:2:11: host name"},
		"bad role":        {"hosts:\n  - role: boss\n", "t.yml:2:11: role"},
		"only workers":    {"hosts:\n  - role: worker\n", "t.yml:2:"},
		"only an edge":    {"hosts:\n  - role: edge\n", "t.yml:2:"},
		"edge and worker": {"hosts:\n  - role: edge\n  - role: worker\n", "t.yml:2:"},
		"two edges":       {"hosts:\n  - {}\n  - role: edge\n  - name: lb\n    role: edge\n", "t.yml:5:11: a second edge host"},
		"edge's name":     {"hosts:\n  - name: edge\n  - role: edge\n", `t.yml:3:`},
		"edge's address":  {"hosts:\n  - address: 192.168.56.20\n  - role: edge\n", "t.yml:3:"},
		"perimeter":       {"site:\n  perimeter: high\nhosts:\n  - {}\n", "t.yml:2:14: "},
		"bad cidr":        {"site:\n  cidr: 192.168.56.1/24\nhosts:\n  - {}\n", "t.yml:2:9: site.cidr"},
		"client network":  {"hosts:\n  - {}\nclients:\n  - name: c\n    address: 198.51.100.1\n    network: 203.0.113.0/24\n", "t.yml:6:14: network"},
		"client overlaps": {"hosts:\n  - {}\nclients:\n  - name: c\n    address: 192.168.57.9\n    network: 192.168.0.0/16\n", "t.yml:4:"},
		"client is route": {"hosts:\n  - {}\nclients:\n  - name: c\n    address: 198.51.100.1\n", "t.yml:5:14: address"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse("t.yml", []byte(test.src))
			var problem *Problem
			if !errors.As(err, &problem) {
				t.Fatalf("got %v, want a Problem", err)
			}
			if !strings.HasPrefix(err.Error(), test.want) {
				t.Errorf("got  %s\nwant %s…", err, test.want)
			}
		})
	}
}

func TestLoadNamesTheFile(t *testing.T) {
	_, err := Load("/does/not/exist.yml")
	if err == nil || !strings.Contains(err.Error(), "/does/not/exist.yml: cannot be read: no such file") {
		t.Errorf("got %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(defaultSource)
	f.Add([]byte("hosts:\n  - {}\n"))
	f.Fuzz(func(t *testing.T, src []byte) {
		if top, err := Parse("f.yml", src); err == nil && len(top.Hosts) == 0 {
			t.Error("accepted a topology without hosts")
		}
	})
}
