package lint

import (
	"fmt"
	"regexp"
	"slices"

	"github.com/hiveproof/hiveproof/scenarios/recipe"
)

// has lists the ports that are sure to be of a mode.
func (s *service) has(mode recipe.PortMode) []*recipe.Port {
	var out []*recipe.Port
	for _, p := range s.Ports {
		if p.Known("mode") && p.Mode == mode {
			out = append(out, p)
		}
	}
	return out
}

// sure reports whether the service's endpoint_mode is known to be mode.
func (s *service) sure(mode recipe.EndpointMode) bool {
	return s.Known("endpoint_mode") && s.EndpointMode == mode
}

// orDefault marks a value that the file leaves out.
func orDefault(written bool) string {
	if written {
		return ""
	}
	return " (the default)"
}

// mixedPorts is HP105, from the warning at the head of the guide's chapter.
func mixedPorts(_ *site, s *service) []remark {
	var first *recipe.Port
	for _, p := range s.Ports {
		switch {
		case !p.Known("mode"):
		case first == nil:
			first = p
		case p.Mode != first.Mode:
			return remarkf(p.ValueAt("mode"),
				"the guide wants one pattern for all ports of a service, and this one is published in mode %s while the one in line %d is in mode %s; use one mode for both, or split the service",
				p.Mode, first.Position.Line, first.Mode)
		}
	}
	return nil
}

// ingressDNSRR is HP201, from the guide's section メッシュルーティング.
func ingressDNSRR(_ *site, s *service) []remark {
	if ports := s.has(recipe.Ingress); s.sure(recipe.EndpointDNSRR) && len(ports) > 0 {
		return remarkf(s.ValueAt("endpoint_mode"),
			"the guide says that mesh routing (メッシュルーティング) needs endpoint_mode vip, and the engine refuses dnsrr with the ingress port of line %d; write vip, or publish in mode host",
			ports[0].Position.Line)
	}
	return nil
}

// ingressGlobal is HP202, from the guide's section メッシュルーティング.
func ingressGlobal(_ *site, s *service) []remark {
	if !s.is(recipe.Global) {
		return nil
	}
	var out []remark
	for _, p := range s.has(recipe.Ingress) {
		out = append(out, remark{p.ValueAt("mode"), fmt.Sprintf(
			"the guide has mesh routing (メッシュルーティング) for services that are not global, and this port of a global one is published in mode ingress%s; write mode: host and endpoint_mode: dnsrr (一対一ルーティング)",
			orDefault(p.ValueAt("mode") != p.Position))})
	}
	return out
}

// hostScalable is HP203, from the guide's sections 一対一ルーティング and 仮想IP.
func hostScalable(_ *site, s *service) []remark {
	if !s.is(recipe.Scalable) {
		return nil
	}
	var out []remark
	for _, p := range s.has(recipe.Host) {
		out = append(out, remark{p.ValueAt("mode"), fmt.Sprintf(
			"the guide has mode host for a global service (一対一ルーティング) or a singleton (仮想IP), and this service has %d replicas: hosts without one do not answer; write mode: ingress, or make the service global", s.Replicas)})
	}
	return out
}

// hostGlobalVIP is HP204, from the guide's section 一対一ルーティング.
func hostGlobalVIP(_ *site, s *service) []remark {
	if s.is(recipe.Global) && s.sure(recipe.EndpointVIP) && len(s.has(recipe.Host)) > 0 {
		return remarkf(s.ValueAt("endpoint_mode"),
			"the guide says that one-to-one routing (一対一ルーティング) must have endpoint_mode dnsrr, and this service has vip%s; write endpoint_mode: dnsrr",
			orDefault(s.Has("endpoint_mode")))
	}
	return nil
}

// needlessVIP is HP205, from the warnings in the guide's sections 内部サービス and
// 仮想IP.
func needlessVIP(_ *site, s *service) []remark {
	if !s.sure(recipe.EndpointVIP) {
		return nil
	}
	var what string
	switch {
	case s.axes.Publish == string(recipe.Internal):
		what = "an internal service (内部サービス)"
	case s.axes.Publish == string(recipe.VirtualIP) && s.is(recipe.Singleton):
		what = "a service with a virtual IP (仮想IP)"
	default:
		return nil
	}
	return remarkf(s.ValueAt("endpoint_mode"),
		"the guide recommends endpoint_mode dnsrr for %s, against a load balancer and an address that nobody needs, and this one has vip%s; write endpoint_mode: dnsrr",
		what, orDefault(s.Has("endpoint_mode")))
}

// replicasGlobal is HP206, from the guide's section グローバル.
func replicasGlobal(_ *site, s *service) []remark {
	value, given := s.Raw("replicas")
	if !s.is(recipe.Global) || !given || value == int64(-1) { // -1 says nothing
		return nil
	}
	return remarkf(s.ValueAt("replicas"),
		"the guide says that a global service (グローバル) cannot have replicas: it runs once on each host; leave replicas out, or write mode: replicated")
}

var vipLabel = regexp.MustCompile(`^HIVE_VIP[0-5]?(_V6)?$`)

// vipNoSingleton is HP207, from the guide's section 仮想IP.
func vipNoSingleton(_ *site, s *service) []remark {
	if !s.is(recipe.Scalable, recipe.Global) {
		return nil
	}
	var out []remark
	for _, l := range s.Labels {
		if vipLabel.MatchString(l.Name) {
			out = append(out, remark{l.Position, fmt.Sprintf(
				"the guide has a virtual IP (仮想IP) for a singleton only, and %s is on a %s service: each host with a task would take the address; leave the label out, or run one replica", l.Name, s.balance())})
		}
	}
	return out
}

// noVIP is HP208, from the guide's section 仮想IP.
func noVIP(x *site, s *service) []remark {
	ports := s.has(recipe.Host)
	isVIP := func(l recipe.Pair) bool { return vipLabel.MatchString(l.Name) }
	if x.hosts == 1 || !s.is(recipe.Singleton) || s.axes.Publish != string(recipe.VirtualIP) || !s.Known("labels") || slices.ContainsFunc(s.Labels, isVIP) || s.pinned() {
		return nil
	}
	return remarkf(ports[0].ValueAt("mode"),
		"the guide publishes a singleton in mode host behind a virtual IP (仮想IP), and this service has no label HIVE_VIP: it is reachable only on the host where its task happens to run; add HIVE_VIP and HIVE_DNAT_PORTS to its labels, or write mode: ingress")
}

// pinned reports whether the tasks may run on one host only, or nobody can tell
// because a constraint is a template.
func (s *service) pinned() bool {
	return slices.ContainsFunc(s.constraints, func(c constraint) bool { return c.template || c.names() })
}
