package lint

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hiveproof/hiveproof/scenarios/recipe"
)

// maxRivals bounds how many of those who want the same port or share one is
// compared with, so that hostile input does not take quadratic time.
const maxRivals = 64

// samePort is HP209. A published port is the whole site's: ingress takes it on
// every host, and mode host wherever a task runs. Services that are never deployed
// together do not collide, nor do host-mode ports whose tasks cannot meet on a
// host: the scheduler keeps them apart as long as there are hosts enough. A port
// that says no number gets a free one. The later of two is reported.
func samePort(x *site, s *service) []remark {
	var out []remark
	for _, p := range s.Ports {
		if p.Assigned || !p.Known("published_port") || !p.Known("protocol") {
			continue
		}
		if other := x.rival(publication{s, p}); other != nil {
			out = append(out, remark{p.ValueAt("published_port"), fmt.Sprintf(
				"a published port is the whole site's, and %d/%s is published by %s as well (%s, mode %s); publish another number",
				p.Published, p.Protocol, other.service.Name, other.port.Position, other.port.Mode)})
		}
	}
	return out
}

// rival finds an earlier publication that cannot stand beside p.
func (x *site) rival(p publication) *publication {
	all := x.ports[socket{p.port.Published, p.port.Protocol}]
	tasks := p.service.Replicas // of those that take a host each
	for i := range all[:min(len(all), maxRivals)] {
		q := &all[i]
		switch {
		case q.port == p.port:
			return nil
		case !p.port.Known("mode") || !q.port.Known("mode") || !meet(p.service, q.service):
		case q.service == p.service:
			return q
		case p.port.Mode == recipe.Ingress || q.port.Mode == recipe.Ingress:
			return q
		case apart(p.service, q.service):
		case p.service.is(recipe.Global) || q.service.is(recipe.Global) || together(p.service, q.service):
			return q
		case p.service.is(recipe.Singleton, recipe.Scalable) && q.service.is(recipe.Singleton, recipe.Scalable):
			if tasks += q.service.Replicas; x.hosts > 0 && tasks > x.hosts {
				return q
			}
		}
	}
	return nil
}

// constraint is "key==value" or "key!=value" of a placement.
type constraint struct {
	key, value      string
	equal, template bool
}

func constraints(s *recipe.Service) []constraint {
	var out []constraint
	for _, text := range s.Placement.Constraints {
		key, value, equal := strings.Cut(text, "==")
		if !equal {
			key, value, _ = strings.Cut(text, "!=")
		}
		out = append(out, constraint{strings.TrimSpace(key), strings.TrimSpace(value), equal, templated(text)})
	}
	return out
}

// names reports whether only one host can meet the constraint.
func (c constraint) names() bool { return c.equal && (c.key == "node.hostname" || c.key == "node.id") }

// apart reports whether constraints keep two services off the same host, or may do
// so because one is a template.
func apart(a, b *service) bool {
	for _, c := range a.constraints {
		for _, d := range b.constraints {
			if c.template || d.template || c.key == d.key && (c.equal && d.equal && c.value != d.value || c.equal != d.equal && c.value == d.value) {
				return true
			}
		}
	}
	return false
}

// together reports whether constraints keep two services on the same one host.
func together(a, b *service) bool {
	for _, c := range a.constraints {
		if c.names() && slices.Contains(b.constraints, c) {
			return true
		}
	}
	return false
}
