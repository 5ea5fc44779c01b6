package lint

import (
	"slices"
	"strings"

	"github.com/hiveproof/hiveproof/scenarios/recipe"
)

// site is what the rules look at: the services of all files, and what has to be
// looked up across them.
type site struct {
	hosts    int
	services []*service
	prepared map[string]*recipe.Volume // by name: volumes that some service has built
	shares   map[string][]mount        // by what is shared, see shareKeys
	ports    map[socket][]publication
	upstream map[*service]reference // global one-to-one services that a proxy names
}

type socket struct {
	port     uint16
	protocol recipe.Protocol
}

type publication struct {
	service *service
	port    *recipe.Port
}

type mount struct {
	service *service
	volume  *recipe.Volume
}

// service is a service with what can be told of its place on the axes.
type service struct {
	*recipe.Service
	file *File
	// balances are the places on the balance axis that it may have: one, unless a
	// value that decides it is not known.
	balances    []recipe.Balance
	volumes     []volume
	constraints []constraint
	axes        Axes
}

// volume is a volume with the patterns that it may have, none if its keys do not
// say. A volume that the service only names has the pattern of the one that
// another service has built under that name.
type volume struct {
	*recipe.Volume
	built    recipe.Volume
	patterns []recipe.VolumePattern
}

// is reports whether the service is sure to have one of the balances.
func (s *service) is(balances ...recipe.Balance) bool {
	return !slices.ContainsFunc(s.balances, func(b recipe.Balance) bool { return !slices.Contains(balances, b) })
}

// is reports whether the volume is sure to have the pattern.
func (v *volume) is(pattern recipe.VolumePattern) bool {
	return len(v.patterns) == 1 && v.patterns[0] == pattern
}

func newSite(files []*File, hosts int) *site {
	x := &site{hosts: hosts, prepared: map[string]*recipe.Volume{}, shares: map[string][]mount{}, ports: map[socket][]publication{}}
	for _, f := range files {
		for _, s := range f.deployed.Services {
			x.services = append(x.services, &service{Service: s, file: f, balances: balances(s), constraints: constraints(s)})
			for _, v := range s.Volumes {
				if x.prepared[v.Source] == nil && hasStorage(v) {
					x.prepared[v.Source] = v
				}
			}
		}
	}
	for _, s := range x.services {
		for _, v := range s.Volumes {
			s.volumes = append(s.volumes, x.volume(s, v))
		}
		s.axes = x.axes(s)
		for i := range s.volumes {
			v := &s.volumes[i]
			for _, key := range shareKeys(v) {
				x.shares[key] = append(x.shares[key], mount{s, v.Volume})
			}
		}
		for _, p := range s.Ports {
			if p.Published != 0 && !p.Assigned && p.Known("published_port") && p.Known("protocol") {
				key := socket{p.Published, p.Protocol}
				x.ports[key] = append(x.ports[key], publication{s, p})
			}
		}
	}
	x.upstream = references(x)
	return x
}

// balances are the places on the balance axis that a service may have.
func balances(s *recipe.Service) []recipe.Balance {
	one, several := !s.Known("replicas") || s.Replicas == 1, !s.Known("replicas") || s.Replicas > 1
	var out []recipe.Balance
	if replicated := !s.Known("mode") || s.Mode != recipe.ModeGlobal; replicated {
		if one {
			out = append(out, recipe.Singleton)
		}
		if several {
			out = append(out, recipe.Scalable)
		}
	}
	if !s.Known("mode") || s.Mode == recipe.ModeGlobal {
		out = append(out, recipe.Global)
	}
	return out
}

// sample is a service of balance b and nothing else, to be classified.
func sample(b recipe.Balance) *recipe.Service {
	switch b {
	case recipe.Global:
		return &recipe.Service{Mode: recipe.ModeGlobal, Replicas: 1}
	case recipe.Scalable:
		return &recipe.Service{Mode: recipe.ModeReplicated, Replicas: 2}
	default:
		return &recipe.Service{Mode: recipe.ModeReplicated, Replicas: 1}
	}
}

func hasStorage(v *recipe.Volume) bool { return v.DRBD != nil || v.NFS != nil || v.Driver != "" }

func (x *site) volume(s *service, v *recipe.Volume) volume {
	out := volume{Volume: v, built: *v}
	if p := x.prepared[v.Source]; p != nil && v.Type == recipe.TypeVolume && v.Source != "" && !hasStorage(v) {
		out.built.DRBD, out.built.NFS, out.built.Driver, out.built.DriverOpts = p.DRBD, p.NFS, p.Driver, p.DriverOpts
	}
	if !decided(v, &out.built) {
		return out
	}
	for _, b := range s.balances {
		one := sample(b)
		one.Volumes = []*recipe.Volume{&out.built}
		if p := recipe.Classify(one, x.hosts).Volume; !slices.Contains(out.patterns, p) {
			out.patterns = append(out.patterns, p)
		}
	}
	return out
}

// decided reports whether all that a volume's pattern hangs on is known.
func decided(written, built *recipe.Volume) bool {
	switch {
	case built.DRBD != nil, built.NFS != nil:
		return true
	case built.Driver != "" || written.Has("driver"):
		typ, _ := built.DriverOpts.Get("type")
		return written.Known("driver") && written.Known("driver_opts") && !templated(built.Driver) && !templated(typ)
	default:
		return written.Known("type")
	}
}

func templated(text string) bool { return strings.Contains(text, "{{") || strings.Contains(text, "{%") }

// axes gives a service's place, on each axis Unknown if it may have several.
func (x *site) axes(s *service) Axes {
	var balance, volumes, publish []string
	add := func(list []string, value string) []string {
		if slices.Contains(list, value) {
			return list
		}
		return append(list, value)
	}
	known := s.Known("volumes") || len(s.volumes) > 0
	for i := range s.volumes {
		known = known && len(s.volumes[i].patterns) > 0
	}
	portsKnown := s.Known("ports") || len(s.Ports) > 0
	for _, p := range s.Ports {
		portsKnown = portsKnown && p.Known("mode")
	}
	for _, b := range s.balances {
		one := sample(b)
		one.Ports = s.Ports
		for i := range s.volumes {
			one.Volumes = append(one.Volumes, &s.volumes[i].built)
		}
		a := recipe.Classify(one, x.hosts)
		balance, volumes, publish = add(balance, string(b)), add(volumes, string(a.Volume)), add(publish, string(a.Publish))
	}
	sure := func(known bool, values []string) string {
		if !known || len(values) != 1 {
			return Unknown
		}
		return values[0]
	}
	return Axes{
		Name: s.Name, Balance: sure(true, balance), Volume: sure(known, volumes), Publish: sure(portsKnown, publish),
		InternalPorts: slices.ContainsFunc(s.Ports, func(p *recipe.Port) bool { return p.Known("published_port") && p.Published >= firstInternalPort }),
	}
}

// meet reports whether two services are ever deployed together.
func meet(a, b *service) bool {
	if !a.Known("available_on") || !b.Known("available_on") {
		return false // nobody can tell
	}
	return slices.ContainsFunc(a.AvailableOn, func(stage string) bool { return slices.Contains(b.AvailableOn, stage) })
}
