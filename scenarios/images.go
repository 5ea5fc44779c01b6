package scenarios

import (
	"fmt"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/mount"
	"github.com/hiveproof/hiveproof/provision/agentimage"
	"github.com/hiveproof/hiveproof/provision/software"
	"github.com/hiveproof/hiveproof/scenarios/recipe"
)

// standIns maps the images that the guide's recipes name to those that take their
// place, in the form of hive-builder's tag-mapping.json.
var standIns = recipe.TagMapping{
	"procube/powerdns:latest": "hiveproof/powerdns:debian",
	"mariadb:10.4":            "hiveproof/mariadb:debian",
	"procube/nginx:latest":    "hiveproof/nginx:debian",
	"linuxserver/librespeed":  "hiveproof/agent:http",
}

// StandIn is an image of the guide's recipes and what runs in its place.
type StandIn struct {
	Image, RunsAs string
	Package       string // Debian package that the software comes from; empty for the agent
}

// StandInImages lists what stands for what, sorted by image.
func StandInImages() []StandIn {
	var all []StandIn
	for image, tag := range standIns {
		s := StandIn{Image: image, RunsAs: tag}
		for _, i := range software.Images() {
			if i.Tag == tag {
				s.Package = i.Package
			}
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b StandIn) int { return strings.Compare(a.Image, b.Image) })
	return all
}

const (
	// agentOnHost is the agent on every host: it is mounted into containers that do
	// not have it, so that questions can be asked from inside.
	agentOnHost  = "/usr/lib/hiveproof/agent"
	genericAgent = "hiveproof/agent:generic"
)

// chosen is the image that runs for a service.
type chosen struct {
	ref     string
	listens []agentimage.Listen
	plain   bool // it does not say who it is
	env     []string
	mounts  []mount.Mount
	notes   []string
}

// runsAs is the tag that runs for a service of a scenario.
func (s Scenario) runsAs(svc *recipe.Service) (ref string, err error) {
	ref, mapped := s.Images.Apply(svc.Image.Ref())
	switch {
	case s.Workload == Agent && !mapped:
		return genericAgent, nil
	case s.Workload == Image || mapped:
		return ref, nil
	}
	standIn, ok := standIns.Apply(ref)
	if !ok {
		return "", fmt.Errorf("service %s: nothing stands in for its image %s: map it to another one (--tag-mapping), or choose --workload agent or image", svc.Name, ref)
	}
	return standIn, nil
}

// chooseImage says what runs for a service and what is known of it.
func chooseImage(s Scenario, svc *recipe.Service) (chosen, error) {
	ref, err := s.runsAs(svc)
	if err != nil {
		return chosen{}, err
	}
	c := chosen{ref: ref}
	isAgent := false
	for _, t := range agentimage.Tags() {
		if t.Name == ref {
			c.listens, isAgent = t.Listens, true
		}
	}
	known := isAgent
	for _, i := range software.Images() {
		if i.Tag == ref {
			c.listens, known = i.Listens, true
		}
	}
	if ref == genericAgent {
		c.listens = guessListens(svc)
		var words []string
		for _, l := range c.listens {
			words = append(words, fmt.Sprintf("%s:%d/%s", l.App, l.Port, l.Proto))
		}
		c.env = append(c.env, "HIVEPROOF_LISTEN="+strings.Join(words, ","))
		c.notes = append(c.notes, fmt.Sprintf("%s: the agent runs in the place of %s, listening on %s", svc.Name, svc.Image.Ref(), strings.Join(words, ", ")))
	}
	if !isAgent {
		c.mounts = append(c.mounts, mount.Mount{Type: mount.TypeBind, Source: agentOnHost, Target: agentimage.Binary, ReadOnly: true})
	}
	c.plain = !known
	if roles := svc.Image.Roles; len(roles) > 0 {
		c.env = append(c.env, "HIVEPROOF_BUILD_ROLES="+strings.Join(roles, ","))
	}
	return c, nil
}

// guessListens are the ports that the agent listens on for a service: those that it
// publishes, else those that its image exposes, else one.
func guessListens(svc *recipe.Service) []agentimage.Listen {
	var all []agentimage.Listen
	add := func(port int, proto string) {
		l := agentimage.Listen{App: "http", Port: port, Proto: proto}
		switch {
		case port == 53:
			l.App = "dns"
		case proto == "udp":
			l.App = "echo"
		}
		if !slices.Contains(all, l) {
			all = append(all, l)
		}
	}
	for _, p := range svc.Ports {
		add(int(p.Target), string(p.Protocol))
	}
	if len(all) > 0 {
		return all
	}
	for _, text := range svc.Image.Expose {
		number, proto, found := strings.Cut(text, "/")
		if !found {
			proto = "tcp"
		}
		port := 0
		if _, err := fmt.Sscan(number, &port); err == nil && port > 0 {
			add(port, proto)
		}
	}
	if len(all) == 0 {
		add(80, "tcp")
	}
	return all
}
