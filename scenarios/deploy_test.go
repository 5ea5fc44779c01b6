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

	"github.com/docker/docker/api/types/mount"
	dswarm "github.com/docker/docker/api/types/swarm"
	"github.com/hiveproof/hiveproof/provision"
	"github.com/hiveproof/hiveproof/provision/agentimage"
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

// plannedOf is a scenario with all that is derived for it.
func plannedOf(t *testing.T, s Scenario) Planned {
	t.Helper()
	r, err := s.load()
	if err != nil {
		t.Fatal(err)
	}
	return Planned{Scenario: s, Recipe: r, Deployed: r}
}

func scenarioOf(t *testing.T, id string) Scenario {
	t.Helper()
	for _, s := range all {
		if s.ID == id {
			return s
		}
	}
	t.Fatalf("no scenario %s", id)
	return Scenario{}
}

func deploymentOf(t *testing.T, id string) (Planned, *deployment) {
	t.Helper()
	p := plannedOf(t, scenarioOf(t, id))
	d, err := plan(p, fakeHosts)
	if err != nil {
		t.Fatal(err)
	}
	return p, d
}

// ownDeployment deploys a definition that a user brings.
func ownDeployment(t *testing.T, workload Workload, images recipe.TagMapping, text string) (*deployment, error) {
	t.Helper()
	return plan(plannedOf(t, Scenario{ID: "own", Recipe: "own.yml", Workload: workload, Images: images, Sources: []Source{{Path: "own.yml", Text: []byte(text)}}}), fakeHosts)
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
	common(t, s, "hiveproof/powerdns:debian")
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
	p, d := deploymentOf(t, "stateless-mesh")
	same(t, "services", d.names(), []string{"pdnsdb", "powerdns"})

	dns := specOf(t, d, "powerdns")
	powerdns(t, dns, dswarm.PortConfigPublishModeIngress)
	same(t, "endpoint mode", dns.EndpointSpec.Mode, dswarm.ResolutionModeVIP)
	if dns.Mode.Global != nil || dns.Mode.Replicated == nil || *dns.Mode.Replicated.Replicas != 2 {
		t.Errorf("mode %+v", dns.Mode)
	}

	db := specOf(t, d, "pdnsdb")
	common(t, db, "hiveproof/mariadb:debian")
	same(t, "endpoint mode", db.EndpointSpec.Mode, dswarm.ResolutionModeDNSRR)
	same(t, "ports", len(db.EndpointSpec.Ports), 0)
	if db.Mode.Replicated == nil || *db.Mode.Replicated.Replicas != 1 {
		t.Errorf("mode %+v", db.Mode)
	}
	// Not the volume, which cannot be had yet, but what questions are asked with from inside.
	same(t, "mounts", db.TaskTemplate.ContainerSpec.Mounts, []mount.Mount{{Type: mount.TypeBind, Source: agentOnHost, Target: agentimage.Binary, ReadOnly: true}})
	if env := strings.Join(db.TaskTemplate.ContainerSpec.Env, "\n"); !strings.Contains(env, "HIVEPROOF_BUILD_ROLES=python-aptk,powerdns-initdb") {
		t.Errorf("the image's build roles are not told:\n%s", env)
	}

	// Each departure from the recipe is told.
	notes := strings.Join(d.Notes, "\n")
	if want := "volume pdnsdb_data (DRBD)"; !strings.Contains(notes, want) {
		t.Errorf("the notes lack %q:\n%s", want, notes)
	}
	network, ok := d.Networks[recipe.DefaultNetwork]
	if len(d.Networks) != 1 || !ok || network.Driver != "overlay" || !network.Attachable || network.Scope != "swarm" {
		t.Errorf("networks %+v", d.Networks)
	}

	run := &scenarioRun{Runner: &Runner{Site: Site{Cluster: fakeCluster{}}}, planned: p, d: d}
	published, hidden := run.endpoints(p.Recipe.Service("powerdns"))
	if len(published) != 6 || len(hidden) != 0 || published[0].App != "dns" || published[0].Addr.String() != "192.168.56.11:53" {
		t.Errorf("powerdns is asked at %+v, hidden %+v", published, hidden)
	}
	published, hidden = run.endpoints(p.Recipe.Service("pdnsdb"))
	if len(published) != 0 || len(hidden) != 3 || hidden[2].App != "mysql" || hidden[2].Addr.String() != "192.168.56.13:3306" {
		t.Errorf("pdnsdb is asked at %+v, hidden %+v", published, hidden)
	}
}

func TestPlanGlobal(t *testing.T) {
	_, d := deploymentOf(t, "stateless-global")
	same(t, "services", d.names(), []string{"pdnsdb", "powerdns"})
	s := specOf(t, d, "powerdns")
	powerdns(t, s, dswarm.PortConfigPublishModeHost)
	same(t, "endpoint mode", s.EndpointSpec.Mode, dswarm.ResolutionModeDNSRR)
	if s.Mode.Global == nil || s.Mode.Replicated != nil {
		t.Errorf("mode %+v", s.Mode)
	}
}

func TestPlanUnknownImage(t *testing.T) {
	d, err := ownDeployment(t, StandIns, nil, "plugin: hive_services\nservices:\n  web:\n    image: nginx\n")
	if d != nil || err == nil || !strings.Contains(err.Error(), "web") || !strings.Contains(err.Error(), "nginx") {
		t.Errorf("got %+v, %v; want an error that names service and image", d, err)
	}
}

// What runs in a service's place, and what is known of its ports.
func TestWorkload(t *testing.T) {
	const definition = `plugin: hive_services
services:
  shop:
    image: shop:1
    environment:
      TEMPLATE: "{{ unresolved }}"
    ports: ["8080:80", "53:53/udp", "5000:5000/udp"]
  stock:
    image: {from: "stock:2", expose: ["9000", "9001/udp"]}
`
	env := func(d *deployment, name string) string {
		return strings.Join(specOf(t, d, name).TaskTemplate.ContainerSpec.Env, "\n")
	}
	d, err := ownDeployment(t, Agent, nil, definition)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "images", d.Images, map[string]string{"shop": genericAgent, "stock": genericAgent})
	for name, want := range map[string]string{
		"shop": "HIVEPROOF_LISTEN=http:80/tcp,dns:53/udp,echo:5000/udp", "stock": "HIVEPROOF_LISTEN=http:9000/tcp,echo:9001/udp",
	} {
		if got := env(d, name); !strings.Contains(got, want) {
			t.Errorf("%s: the environment lacks %s:\n%s", name, want, got)
		}
	}
	// The engine expands templates of its own in the environment.
	if got := env(d, "shop"); !strings.Contains(got, `TEMPLATE={{"{{"}} unresolved }}`) {
		t.Errorf("a definition's template is left to the engine:\n%s", got)
	}
	same(t, "what is spoken", []string{d.appOf("shop", 80, "tcp"), d.appOf("shop", 53, "udp"), d.appOf("shop", 53, "tcp")}, []string{"http", "dns", ""})

	d, err = ownDeployment(t, Image, recipe.TagMapping{"stock:2": "stock:3"}, definition)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "images", d.Images, map[string]string{"shop": "shop:1", "stock": "stock:3"})
	same(t, "plain", d.Plain, map[string]bool{"shop": true, "stock": true})
	same(t, "mounts", len(specOf(t, d, "shop").TaskTemplate.ContainerSpec.Mounts), 1)

	d, err = ownDeployment(t, Agent, recipe.TagMapping{"shop:1": "hiveproof/nginx:debian"}, definition)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "images", d.Images, map[string]string{"shop": "hiveproof/nginx:debian", "stock": genericAgent})
	same(t, "plain", d.Plain["shop"], false)
}

// Only singletons that nobody publishes are kept off a host.
func TestKeepOff(t *testing.T) {
	p, d := deploymentOf(t, "lb-stateless-mesh")
	d.keepOff(p.Deployed, "hive0")
	same(t, "the database's constraints", specOf(t, d, "stdb").TaskTemplate.Placement.Constraints, []string{"node.hostname!=hive0"})
	same(t, "the web service's constraints", len(specOf(t, d, "speedtest").TaskTemplate.Placement.Constraints), 0)
	if notes := strings.Join(d.Notes, "\n"); !strings.Contains(notes, "stdb is kept off hive0") {
		t.Errorf("it is not told: %s", notes)
	}
}
