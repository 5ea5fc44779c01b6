package recipes_test

import (
	"errors"
	"io/fs"
	"slices"
	"testing"

	"github.com/hiveproof/hiveproof/scenarios/recipe"
	"github.com/hiveproof/hiveproof/scenarios/recipes"
)

func read(t *testing.T, name string) *recipe.Recipe {
	t.Helper()
	src, err := recipes.Read(name)
	if err != nil {
		t.Fatal(err)
	}
	r, err := recipe.Parse(name, src)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestNames(t *testing.T) {
	names := recipes.Names()
	for _, want := range []string{"stateless-mesh.yml", "stateless-global.yml"} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is not among %v", want, names)
		}
	}
	for _, name := range names {
		read(t, name)
	}
}

func TestReadUnknown(t *testing.T) {
	for _, name := range []string{"", "none.yml", "recipes.go", "../recipes/stateless-mesh.yml", "["} {
		if _, err := recipes.Read(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Read(%q): %v, want fs.ErrNotExist", name, err)
		}
	}
}

// The tables of the guide's sections, on its three-host site.
func TestAxes(t *testing.T) {
	tests := []struct {
		recipe, service string
		want            recipe.Axes
	}{
		{"stateless-mesh.yml", "powerdns", recipe.Axes{Balance: recipe.Scalable, Volume: recipe.Stateless, Publish: recipe.Mesh}},
		{"stateless-mesh.yml", "pdnsdb", recipe.Axes{Balance: recipe.Singleton, Volume: recipe.ServiceVolume, Publish: recipe.Internal}},
		{"stateless-global.yml", "powerdns", recipe.Axes{Balance: recipe.Global, Volume: recipe.Stateless, Publish: recipe.OneToOne}},
		{"stateless-global.yml", "pdnsdb", recipe.Axes{Balance: recipe.Singleton, Volume: recipe.ServiceVolume, Publish: recipe.Internal}},
		{"lb-stateless-mesh.yml", "speedtest", recipe.Axes{Balance: recipe.Scalable, Volume: recipe.Stateless, Publish: recipe.Mesh}},
		{"lb-stateless-mesh.yml", "stdb", recipe.Axes{Balance: recipe.Singleton, Volume: recipe.ServiceVolume, Publish: recipe.Internal}},
		{"lb-sticky-global.yml", "speedtest", recipe.Axes{Balance: recipe.Global, Volume: recipe.Stateless, Publish: recipe.OneToOne}},
		{"lb-sticky-global.yml", "stdb", recipe.Axes{Balance: recipe.Singleton, Volume: recipe.ServiceVolume, Publish: recipe.Internal}},
		{"builtin-lb.yml", "proxy", recipe.Axes{Balance: recipe.Global, Volume: recipe.HostVolume, Publish: recipe.OneToOne}},
		{"builtin-lb.yml", "speedtest", recipe.Axes{Balance: recipe.Scalable, Volume: recipe.Stateless, Publish: recipe.Internal}},
		{"builtin-lb.yml", "stdb", recipe.Axes{Balance: recipe.Singleton, Volume: recipe.ServiceVolume, Publish: recipe.Internal}},
		{"builtin-sticky.yml", "proxy", recipe.Axes{Balance: recipe.Global, Volume: recipe.HostVolume, Publish: recipe.OneToOne}},
		{"builtin-sticky.yml", "speedtest", recipe.Axes{Balance: recipe.Global, Volume: recipe.Stateless, Publish: recipe.OneToOne}},
		{"builtin-sticky.yml", "stdb", recipe.Axes{Balance: recipe.Singleton, Volume: recipe.ServiceVolume, Publish: recipe.Internal}},
	}
	services := make(map[string]int)
	for _, tt := range tests {
		s := read(t, tt.recipe).Service(tt.service)
		if s == nil {
			t.Errorf("%s has no %s", tt.recipe, tt.service)
			continue
		}
		if got := recipe.Classify(s, 3); got != tt.want {
			t.Errorf("%s %s: %v, want %v", tt.recipe, tt.service, got, tt.want)
		}
		services[tt.recipe]++
	}
	for name, want := range services {
		if got := len(read(t, name).Services); got != want {
			t.Errorf("%s has %d services, want %d", name, got, want)
		}
	}
}

// What the guide's settings say beyond the axes.
func TestSettings(t *testing.T) {
	mesh := read(t, "stateless-mesh.yml")
	powerdns, pdnsdb := mesh.Service("powerdns"), mesh.Service("pdnsdb")
	if powerdns.Replicas != 2 || powerdns.EndpointMode != recipe.EndpointVIP || powerdns.Image.Tag != "procube/powerdns:latest" {
		t.Errorf("powerdns: %d replicas, %s, image %q", powerdns.Replicas, powerdns.EndpointMode, powerdns.Image.Tag)
	}
	if pdnsdb.EndpointMode != recipe.EndpointDNSRR || pdnsdb.Image.From != "mariadb:10.4" ||
		!slices.Equal(pdnsdb.Image.Roles, []string{"python-aptk", "powerdns-initdb"}) {
		t.Errorf("pdnsdb: %s, image %+v", pdnsdb.EndpointMode, pdnsdb.Image)
	}
	if v := pdnsdb.Volumes[0]; v.DRBD == nil || v.DRBD.Bytes != 500<<20 || v.DRBD.FSType != "xfs" || v.Target != "/var/lib/mysql" {
		t.Errorf("pdnsdb's volume: %+v", v)
	}
	global := read(t, "stateless-global.yml").Service("powerdns")
	if global.EndpointMode != recipe.EndpointDNSRR {
		t.Errorf("global powerdns: %s", global.EndpointMode)
	}
	for mode, s := range map[recipe.PortMode]*recipe.Service{recipe.Ingress: powerdns, recipe.Host: global} {
		if len(s.Ports) != 2 {
			t.Fatalf("%d ports, want 2", len(s.Ports))
		}
		for i, protocol := range []recipe.Protocol{recipe.UDP, recipe.TCP} {
			p := s.Ports[i]
			if p.Target != 53 || p.Published != 53 || p.Protocol != protocol || p.Mode != mode || p.Assigned {
				t.Errorf("port %+v, want 53 %s %s", p, protocol, mode)
			}
		}
		if !slices.Equal(s.InitializeRoles, []string{"python-aptk", "powerdns-init"}) || len(s.Command) != 5 || len(s.Environment) != 5 {
			t.Errorf("roles %v, command %v, environment %v", s.InitializeRoles, s.Command, s.Environment)
		}
	}
	// The password is the only template, and nothing that the deployment needs hangs on it.
	left, err := mesh.Resolve(map[string]string{"db_password": "secret"})
	if err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
	if powerdns.Command[1] != "--api-key=secret" {
		t.Errorf("command %v", powerdns.Command)
	}
}
