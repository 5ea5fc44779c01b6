package scenarios

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/network"
	dswarm "github.com/docker/docker/api/types/swarm"
	"github.com/hiveproof/hiveproof/provision"
	"github.com/hiveproof/hiveproof/provision/agentimage"
	"github.com/hiveproof/hiveproof/provision/swarm"
	"github.com/hiveproof/hiveproof/scenarios/recipe"
)

// deployment is a recipe in the terms of the engine.
type deployment struct {
	Specs    []dswarm.ServiceSpec
	Networks map[string]network.CreateOptions
	Images   map[string]string              // service -> image that runs
	Listens  map[string][]agentimage.Listen // service -> what its image listens on, by container port
	Plain    map[string]bool                // services that do not say who they are
	Notes    []string                       // where it departs from the recipe
}

// plan maps a scenario to the engine's terms as hive-builder's deploy step does:
// the hostname is the service's name, and every server is in the hosts file.
func plan(p Planned, hosts []provision.Host) (*deployment, error) {
	d := &deployment{
		Networks: map[string]network.CreateOptions{}, Images: map[string]string{},
		Listens: map[string][]agentimage.Listen{}, Plain: map[string]bool{},
	}
	for _, n := range p.Deployed.Networks {
		if n.IPAM != nil {
			d.Notes = append(d.Notes, fmt.Sprintf("network %s: its ipam settings are left to the engine", n.Name))
		}
		d.Networks[n.Name] = network.CreateOptions{Driver: n.Driver, Options: n.DriverOpts.Map(), Attachable: true, Scope: "swarm"}
	}
	for _, s := range p.Deployed.Services {
		spec, err := d.service(p.Scenario, s, hosts)
		if err != nil {
			return nil, err
		}
		d.Specs = append(d.Specs, spec)
	}
	return d, nil
}

// keepOff lets no task of the internal singletons run on a host: until their
// volumes are provisioned they do not survive the loss of theirs, and claims about
// other services are to be put to the test on that host.
func (d *deployment) keepOff(r *recipe.Recipe, host string) {
	for i, s := range r.Services {
		if s.Mode == recipe.ModeReplicated && s.Replicas == 1 && len(s.Ports) == 0 {
			placement := d.Specs[i].TaskTemplate.Placement
			placement.Constraints = append(slices.Clone(placement.Constraints), "node.hostname!="+host)
			d.Notes = append(d.Notes, fmt.Sprintf("%s is kept off %s, which is to lose its power: its volume would not follow it", s.Name, host))
		}
	}
}

func (d *deployment) service(scenario Scenario, s *recipe.Service, hosts []provision.Host) (dswarm.ServiceSpec, error) {
	chosen, err := chooseImage(scenario, s)
	if err != nil {
		return dswarm.ServiceSpec{}, err
	}
	d.Images[s.Name], d.Listens[s.Name], d.Plain[s.Name] = chosen.ref, chosen.listens, chosen.plain
	d.Notes = append(d.Notes, chosen.notes...)
	c := &dswarm.ContainerSpec{
		Image:    chosen.ref,
		Hostname: s.Name,
		Command:  s.Entrypoint,
		Args:     s.Command,
		User:     s.User,
		Dir:      s.WorkingDir,
		Labels:   s.Labels.Map(),
		Sysctls:  s.Sysctls.Map(),
		Env:      append(environment(s), chosen.env...),
		// A registry is never asked, so the engine has no digest to pin.
		CapabilityAdd: s.CapAdd, CapabilityDrop: s.CapDrop,
		Mounts: append(d.mounts(s), chosen.mounts...),
	}
	for _, h := range hosts {
		c.Hosts = append(c.Hosts, h.Addr().String()+" "+h.Name())
	}
	for _, h := range s.Hosts {
		c.Hosts = append(c.Hosts, h.Value+" "+h.Name)
	}
	if s.StopGracePeriod > 0 {
		c.StopGracePeriod = &s.StopGracePeriod
	}
	if len(s.DNS) > 0 {
		c.DNSConfig = &dswarm.DNSConfig{Nameservers: s.DNS}
	}
	if h := s.Healthcheck; h != nil {
		c.Healthcheck = &container.HealthConfig{
			Test: h.Test, Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod, Retries: h.Retries,
		}
	}
	spec := dswarm.ServiceSpec{
		Annotations: dswarm.Annotations{Name: s.Name, Labels: s.Labels.Map()},
		TaskTemplate: dswarm.TaskSpec{
			ContainerSpec: c,
			Placement: &dswarm.Placement{
				Constraints: s.Placement.Constraints,
				MaxReplicas: uint64(s.Placement.MaxPerNode),
			},
			RestartPolicy: restart(s.RestartConfig),
			Resources:     resources(s),
		},
		EndpointSpec: &dswarm.EndpointSpec{Mode: dswarm.ResolutionMode(s.EndpointMode)},
	}
	for _, n := range s.Networks {
		spec.TaskTemplate.Networks = append(spec.TaskTemplate.Networks,
			dswarm.NetworkAttachmentConfig{Target: n.Name, Aliases: n.Aliases})
	}
	for _, p := range s.Placement.Spread {
		spec.TaskTemplate.Placement.Preferences = append(spec.TaskTemplate.Placement.Preferences,
			dswarm.PlacementPreference{Spread: &dswarm.SpreadOver{SpreadDescriptor: p}})
	}
	for _, p := range s.Ports {
		spec.EndpointSpec.Ports = append(spec.EndpointSpec.Ports, dswarm.PortConfig{
			Protocol: dswarm.PortConfigProtocol(p.Protocol), TargetPort: uint32(p.Target),
			PublishedPort: uint32(p.Published), PublishMode: dswarm.PortConfigPublishMode(p.Mode),
		})
	}
	if s.Mode == recipe.ModeGlobal {
		spec.Mode.Global = &dswarm.GlobalService{}
	} else {
		replicas := uint64(s.Replicas)
		spec.Mode.Replicated = &dswarm.ReplicatedService{Replicas: &replicas}
	}
	return spec, nil
}

// environment is the recipe's, and what the agent needs to say who it is; the
// engine fills in the templates for each task.
func environment(s *recipe.Service) []string {
	var env []string
	for _, p := range s.Environment {
		env = append(env, p.Name+"="+literal(p.Value))
	}
	return append(env,
		"HIVEPROOF_SERVICE={{.Service.Name}}",
		"HIVEPROOF_TASK={{.Task.ID}}",
		"HIVEPROOF_SLOT={{.Task.Slot}}",
		"HIVEPROOF_NODE={{.Node.Hostname}}",
	)
}

// literal keeps the engine from taking a definition's text for a template of its own.
func literal(text string) string { return strings.ReplaceAll(text, "{{", `{{"{{"}}`) }

func restart(r *recipe.RestartConfig) *dswarm.RestartPolicy {
	if r == nil {
		return nil
	}
	p := &dswarm.RestartPolicy{Condition: dswarm.RestartPolicyCondition(r.Condition)}
	if r.Delay > 0 {
		p.Delay = &r.Delay
	}
	if r.Window > 0 {
		p.Window = &r.Window
	}
	if r.MaxAttempts > 0 {
		attempts := uint64(r.MaxAttempts)
		p.MaxAttempts = &attempts
	}
	return p
}

func resources(s *recipe.Service) *dswarm.ResourceRequirements {
	if s.MemLimit == 0 && s.CPULimit == 0 {
		return nil
	}
	return &dswarm.ResourceRequirements{Limits: &dswarm.Limit{
		MemoryBytes: s.MemLimit, NanoCPUs: int64(s.CPULimit * float64(time.Second)), // nano-CPUs: 1e9 is one CPU
	}}
}

// mounts are the volumes that this version can provide; the others are noted.
func (d *deployment) mounts(s *recipe.Service) []mount.Mount {
	var all []mount.Mount
	for _, v := range s.Volumes {
		if kind := prepared(v); kind != "" {
			d.Notes = append(d.Notes, fmt.Sprintf("%s: volume %s (%s) is not provisioned yet: the service runs without it", s.Name, v.Source, kind))
			continue
		}
		all = append(all, mount.Mount{Type: mount.Type(v.Type), Source: literal(v.Source), Target: literal(v.Target), ReadOnly: v.ReadOnly})
	}
	return all
}

// prepared names the storage that must exist before a volume can be mounted;
// empty if the engine makes the volume itself.
func prepared(v *recipe.Volume) string {
	switch {
	case v.DRBD != nil:
		return "DRBD"
	case v.NFS != nil:
		return "NFS"
	case v.Driver != "":
		return "driver " + v.Driver
	}
	return ""
}

// appOf is what is spoken on a service's container port; empty if it is not known.
func (d *deployment) appOf(service string, port uint16, proto string) string {
	for _, l := range d.Listens[service] {
		if l.Port == int(port) && l.Proto == proto {
			return l.App
		}
	}
	return ""
}

// names are the services of a deployment.
func (d *deployment) names() []string {
	return slices.Sorted(maps.Keys(d.Images))
}

// apply creates the networks and services.
func (d *deployment) apply(ctx context.Context, s *swarm.Swarm) error {
	if err := s.EnsureNetworks(ctx, d.Networks); err != nil {
		return err
	}
	return s.Create(ctx, d.Specs)
}
