package scenarios

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	dswarm "github.com/docker/docker/api/types/swarm"
	"github.com/hiveproof/hiveproof/provision"
	"github.com/hiveproof/hiveproof/scenarios/recipe"
)

// fakeHost has a name and an address and does nothing.
type fakeHost int

func (h fakeHost) Name() string     { return fmt.Sprintf("hive%d", int(h)) }
func (h fakeHost) Addr() netip.Addr { return netip.AddrFrom4([4]byte{192, 168, 56, byte(11 + h)}) }
func (h fakeHost) CPUs() int        { return 1 }
func (h fakeHost) MemoryMiB() int   { return 1024 }
func (h fakeHost) Run(context.Context, string, io.Reader) ([]byte, error) {
	return nil, errors.ErrUnsupported
}
func (h fakeHost) DialUnix(context.Context, string) (net.Conn, error) {
	return nil, errors.ErrUnsupported
}

var fakeHosts = []provision.Host{fakeHost(0), fakeHost(1), fakeHost(2)}

func deploymentOf(t *testing.T, id string) (*recipe.Recipe, *deployment) {
	t.Helper()
	for _, s := range all {
		if s.ID != id {
			continue
		}
		r, err := s.load()
		if err != nil {
			t.Fatal(err)
		}
		d, err := plan(r, fakeHosts, standIns)
		if err != nil {
			t.Fatal(err)
		}
		return r, d
	}
	t.Fatalf("no scenario %s", id)
	return nil, nil
}

func specOf(t *testing.T, d *deployment, name string) dswarm.ServiceSpec {
	t.Helper()
	for _, s := range d.Specs {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("no service %s", name)
	return dswarm.ServiceSpec{}
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s:\ngot  %+v\nwant %+v", what, got, want)
	}
}

// common checks what every service has.
func common(t *testing.T, s dswarm.ServiceSpec, image string) {
	t.Helper()
	c := s.TaskTemplate.ContainerSpec
	same(t, "image", c.Image, image)
	same(t, "hostname", c.Hostname, s.Name)
	same(t, "hosts", c.Hosts, []string{"192.168.56.11 hive0", "192.168.56.12 hive1", "192.168.56.13 hive2"})
	if got := s.TaskTemplate.Networks; len(got) != 1 || got[0].Target != recipe.DefaultNetwork {
		t.Errorf("networks %+v", got)
	}
	env := strings.Join(c.Env, "\n")
	for _, want := range []string{
		"HIVEPROOF_SERVICE={{.Service.Name}}", "HIVEPROOF_TASK={{.Task.ID}}",
		"HIVEPROOF_SLOT={{.Task.Slot}}", "HIVEPROOF_NODE={{.Node.Hostname}}",
	} {
		if !strings.Contains(env, want) {
			t.Errorf("the environment lacks %s:\n%s", want, env)
		}
	}
	if strings.Contains(env, "db_password") {
		t.Errorf("a template is left in the environment:\n%s", env)
	}
}

func powerdns(t *testing.T, s dswarm.ServiceSpec, mode dswarm.PortConfigPublishMode) {
	t.Helper()
	common(t, s, "hiveproof/agent:dns")
	c := s.TaskTemplate.ContainerSpec
	same(t, "environment", c.Env[:5], []string{
		"MYSQL_PASSWORD=hiveproof", "MYSQL_HOST=pdnsdb", "MYSQL_DNSSEC=yes", "MYSQL_CHECK_INTERVAL=10", "MYSQL_CHECK_RETRY=50",
	})
	// The recipe's command are arguments to the image's entry point.
	same(t, "arguments", c.Args, []string{
		"--api=yes", "--api-key=hiveproof", "--webserver=yes", "--webserver-address=0.0.0.0", "--webserver-allow-from=0.0.0.0/0",
	})
	same(t, "entry point", len(c.Command), 0)
	same(t, "ports", s.EndpointSpec.Ports, []dswarm.PortConfig{
		{Protocol: "udp", TargetPort: 53, PublishedPort: 53, PublishMode: mode},
		{Protocol: "tcp", TargetPort: 53, PublishedPort: 53, PublishMode: mode},
	})
}

func TestPlanMesh(t *testing.T) {
	r, d := deploymentOf(t, "stateless-mesh")
	same(t, "services", d.names(), []string{"pdnsdb", "powerdns"})

	dns := specOf(t, d, "powerdns")
	powerdns(t, dns, dswarm.PortConfigPublishModeIngress)
	same(t, "endpoint mode", dns.EndpointSpec.Mode, dswarm.ResolutionModeVIP)
	if dns.Mode.Global != nil || dns.Mode.Replicated == nil || *dns.Mode.Replicated.Replicas != 2 {
		t.Errorf("mode %+v", dns.Mode)
	}

	db := specOf(t, d, "pdnsdb")
	common(t, db, "hiveproof/agent:mariadb")
	same(t, "endpoint mode", db.EndpointSpec.Mode, dswarm.ResolutionModeDNSRR)
	same(t, "ports", len(db.EndpointSpec.Ports), 0)
	if db.Mode.Replicated == nil || *db.Mode.Replicated.Replicas != 1 {
		t.Errorf("mode %+v", db.Mode)
	}
	same(t, "mounts", len(db.TaskTemplate.ContainerSpec.Mounts), 0)

	// Each departure from the recipe is told.
	notes := strings.Join(d.Notes, "\n")
	for _, want := range []string{"volume pdnsdb_data (DRBD)", "powerdns: its build and initialise roles are not run", "pdnsdb: its build and initialise roles are not run"} {
		if !strings.Contains(notes, want) {
			t.Errorf("the notes lack %q:\n%s", want, notes)
		}
	}
	network, ok := d.Networks[recipe.DefaultNetwork]
	if len(d.Networks) != 1 || !ok || network.Driver != "overlay" || !network.Attachable || network.Scope != "swarm" {
		t.Errorf("networks %+v", d.Networks)
	}

	published, hidden := d.endpoints(r.Service("powerdns"), fakeHosts)
	if len(published) != 6 || len(hidden) != 0 || published[0].App != "dns" || published[0].Addr.String() != "192.168.56.11:53" {
		t.Errorf("powerdns is asked at %+v, hidden %+v", published, hidden)
	}
	published, hidden = d.endpoints(r.Service("pdnsdb"), fakeHosts)
	if len(published) != 0 || len(hidden) != 3 || hidden[2].App != "echo" || hidden[2].Addr.String() != "192.168.56.13:3306" {
		t.Errorf("pdnsdb is asked at %+v, hidden %+v", published, hidden)
	}
}

func TestPlanGlobal(t *testing.T) {
	_, d := deploymentOf(t, "stateless-global")
	same(t, "services", d.names(), []string{"powerdns"})
	s := specOf(t, d, "powerdns")
	powerdns(t, s, dswarm.PortConfigPublishModeHost)
	same(t, "endpoint mode", s.EndpointSpec.Mode, dswarm.ResolutionModeDNSRR)
	if s.Mode.Global == nil || s.Mode.Replicated != nil {
		t.Errorf("mode %+v", s.Mode)
	}
}

func TestPlanUnknownImage(t *testing.T) {
	r, err := recipe.Parse("r.yml", []byte("plugin: hive_services\nservices:\n  web:\n    image: nginx\n"))
	if err != nil {
		t.Fatal(err)
	}
	d, err := plan(r, fakeHosts, standIns)
	if d != nil || err == nil || !strings.Contains(err.Error(), "web") || !strings.Contains(err.Error(), "nginx") {
		t.Errorf("got %+v, %v; want an error that names service and image", d, err)
	}
}
