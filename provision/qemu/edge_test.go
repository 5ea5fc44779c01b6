package qemu

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hiveproof/hiveproof/provision"
	"github.com/hiveproof/hiveproof/provision/image"
	"github.com/hiveproof/hiveproof/provision/topology"
)

// prepared is a cluster whose hosts are all off.
func prepared(t *testing.T, source string) *Cluster {
	t.Helper()
	top, err := topology.Parse("t.yml", []byte(source))
	if err != nil {
		t.Fatal(err)
	}
	c := newCluster(Config{Topology: top, Image: &image.Image{Kernel: "/k", Initrd: "/i", Disk: "/d"}, Accel: TCG, Dir: filepath.Join(t.TempDir(), "hosts")})
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := c.prepare(); err != nil {
		t.Fatal(err)
	}
	return c
}

// The edge is amid the others, where an index that is off by one shows.
const withEdge = "site: {perimeter: true}\nhosts: [{}, {role: edge}, {disk: 16GiB}]\n"

func TestEdgeIsNoHostOfTheSwarm(t *testing.T) {
	names := func(c *Cluster) string {
		var all []string
		for _, h := range c.Hosts() {
			all = append(all, h.Name())
		}
		return strings.Join(all, " ")
	}
	c := prepared(t, withEdge)
	if got := names(c); got != "hive0 hive1" {
		t.Errorf("hosts %s", got)
	}
	if edge := c.Edge(); edge == nil || edge.Name() != "edge" || edge.Addr().String() != "192.168.56.20" {
		t.Errorf("edge %v", edge)
	}
	if !slices.Contains(c.Capabilities(), provision.EdgeHost) || len(c.on()) != 3 {
		t.Errorf("capabilities %v, %d hosts to run", c.Capabilities(), len(c.on()))
	}
	without := prepared(t, "hosts: [{}]\n")
	if edge := without.Edge(); edge != nil || names(without) != "hive0" {
		t.Errorf("edge %v of a topology without one; hosts %s", edge, names(without))
	}
	without.ParkEdge()
	if len(without.on()) != 1 {
		t.Error("a host is off that is no edge")
	}
}

func TestParkEdge(t *testing.T) {
	fakeQEMU(t, answering)
	c := prepared(t, withEdge)
	for _, h := range c.hosts {
		cfg, _ := testVM(t)
		v, err := startVM(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		h.vm = v
	}
	c.ParkEdge()
	for _, h := range c.hosts {
		if h.isRunning() == h.spec.Edge {
			t.Errorf("%s runs: %t", h.Name(), h.isRunning())
		}
	}
	if edge := c.Edge(); edge != nil {
		t.Errorf("%v is off, and returned", edge.Name())
	}
	if len(c.on()) != 2 || len(c.Hosts()) != 2 {
		t.Errorf("%d hosts to run, %d of the swarm, want 2 and 2", len(c.on()), len(c.Hosts()))
	}
	if _, err := c.Save(t.Context(), t.TempDir()); err == nil || !strings.Contains(err.Error(), "edge host is off") {
		t.Errorf("saved without the edge host: %v", err)
	}
	c.park(false)
	if c.Edge() == nil || len(c.on()) != 3 {
		t.Error("the edge host does not come back")
	}
}

func TestGuestIdentity(t *testing.T) {
	c := prepared(t, withEdge)
	for i, h := range c.hosts {
		text := c.guestIdentity(i)
		lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
		for _, want := range []string{"hostname " + h.Name(), "host 192.168.56.11 hive0", "host 192.168.56.20 edge", "host 192.168.56.12 hive1", "gateway 192.168.56.1"} {
			if !slices.Contains(lines, want) {
				t.Errorf("%s: no line %q in:\n%s", h.Name(), want, text)
			}
		}
		if got := slices.Contains(lines, "edge"); got != h.spec.Edge {
			t.Errorf("%s is told that it is the edge: %t", h.Name(), got)
		}
		if got := slices.Contains(lines, "grow /dev/vda"); got != (h.Name() == "hive1") {
			t.Errorf("%s is told to grow its disk: %t", h.Name(), got)
		}
		if got := string(h.vmConfig.fwCfg["identity"]); got != text {
			t.Errorf("%s is given another identity:\n%s", h.Name(), got)
		}
	}
}

func TestProcessorOfTheEdge(t *testing.T) {
	c := prepared(t, withEdge)
	after := func(args []string, option string) string { return args[1+slices.Index(args, option)] }
	for _, h := range c.hosts {
		for _, test := range []struct {
			accel        Accel
			edge, others string
		}{
			{TCG, "max,-erms", "max,-cx16,-erms"},
			{KVM, "host", "host"},
		} {
			cfg, want := h.vmConfig, test.others
			cfg.accel = test.accel
			if h.spec.Edge {
				want = test.edge
			}
			args, err := cfg.args()
			if err != nil {
				t.Fatal(err)
			}
			if cpu := after(args, "-cpu"); cpu != want {
				t.Errorf("%s under %s: -cpu %s, want %s", h.Name(), test.accel, cpu, want)
			}
			hidden := slices.Contains(strings.Fields(after(args, "-append")), "clearcpuid=cx16")
			if hidden != (h.spec.Edge && test.accel == TCG) {
				t.Errorf("%s under %s: the instruction is hidden from the kernel: %t", h.Name(), test.accel, hidden)
			}
		}
	}
}

// A silence is a perimeter's, a refusal that of a client that nothing listens at.
func TestClusterClosesItsPerimeter(t *testing.T) {
	for _, site := range []string{"site: {perimeter: true}\n", ""} {
		c := prepared(t, site+"hosts: [{}]\nclients: [{name: target, address: 192.168.56.50}, {name: segment, address: 192.168.56.51}, {name: outside, address: 198.51.100.10}]\n")
		for _, when := range []string{"at first", "after its links were healed"} {
			for _, from := range c.Clients()[1:] {
				for port, high := range map[string]bool{"9999": false, "10000": true} {
					limit, want := limit, error(syscall.ECONNREFUSED)
					if high && c.cfg.Topology.Perimeter && from.Network() != "segment" {
						limit, want = 100*time.Millisecond, context.DeadlineExceeded
					}
					ctx, cancel := context.WithTimeout(t.Context(), limit)
					if conn, err := from.DialContext(ctx, "tcp", "192.168.56.50:"+port); !errors.Is(err, want) {
						t.Errorf("%s, from %s to port %s: %v, %v; want %v", when, from.Name(), port, conn, err, want)
					}
					cancel()
				}
			}
			c.resetNetwork()
		}
	}
}
