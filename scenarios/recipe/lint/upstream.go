package lint

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/hiveproof/hiveproof/scenarios/recipe"
)

// firstInternalPort is where the numbers begin that the guide gives to ports which
// are not for the outside (section スティッキー対応内蔵ロードバランサ).
const firstInternalPort = 10000

// reference is a place where a proxy names an upstream.
type reference struct {
	proxy *service
	at    recipe.Position
	port  int // as named; 0 if none is
}

// upstreamPort is HP210.
func upstreamPort(x *site, s *service) []remark {
	ref, named := x.upstream[s]
	if !named {
		return nil
	}
	var out []remark
	for _, p := range s.has(recipe.Host) {
		if lowPort(p) && (ref.port == 0 || ref.port == int(p.Published) || ref.port == int(p.Target)) {
			out = append(out, remark{p.ValueAt("published_port"), fmt.Sprintf(
				"the guide marks ports that are not for the outside with numbers of 10000 and above, and %s, an upstream of %s (%s), publishes %d; publish 10000 or above, and forward to the hosts' names",
				s.Name, ref.proxy.Name, ref.at, p.Published)})
		}
	}
	return out
}

func lowPort(p *recipe.Port) bool {
	return p.Published != 0 && p.Known("published_port") && p.Published < firstInternalPort
}

// A host as a definition names it: alone, or followed by a port.
var hostPort = regexp.MustCompile(`[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?(?::([0-9]{1,5})\b)?`)

// A container host's name as hive-builder gives it, such as p-hive0.example.
var hostName = regexp.MustCompile(`^(?:[ps]-)?hive[0-9]+(?:\.|$)`)

// references finds the global one-to-one services that a proxy forwards to, as far
// as definitions say: a proxy's own configuration is mostly in a file. A proxy is a
// service that publishes ports itself. It names an upstream in a value of its
// environment or labels or in a word of its command: by the service's name as the
// whole value, before a port or behind // or @, or by a container host's name and
// the port that the service publishes. The first such place of a service is kept.
func references(x *site) map[*service]reference {
	byName, byPort := map[string][]*service{}, map[int][]*service{}
	for _, s := range x.services {
		if s.axes.Publish != string(recipe.OneToOne) || !slices.ContainsFunc(s.Ports, lowPort) {
			continue
		}
		byName[s.Name] = append(byName[s.Name], s)
		for _, p := range s.Ports {
			if lowPort(p) {
				byPort[int(p.Published)] = append(byPort[int(p.Published)], s)
			}
		}
	}
	out := make(map[*service]reference)
	note := func(proxy *service, at recipe.Position, text string) {
		for _, m := range hostPort.FindAllStringSubmatchIndex(text, -1) {
			name, port := text[m[0]:m[1]], 0
			if m[2] >= 0 {
				name = text[m[0] : m[2]-1]
				port, _ = strconv.Atoi(text[m[2]:m[3]]) // five digits are a number
			}
			before := text[:m[0]]
			upstreams := byPort[port]
			if !hostName.MatchString(name) {
				upstreams = byName[name]
				if port == 0 && (m[0] > 0 || m[1] < len(text)) && !strings.HasSuffix(before, "//") && !strings.HasSuffix(before, "@") {
					upstreams = nil
				}
			}
			for i, u := range upstreams {
				if _, twice := out[u]; !twice && u != proxy && meet(u, proxy) {
					out[u] = reference{proxy, at, port}
				}
				if i == maxRivals {
					break
				}
			}
		}
	}
	if len(byName) == 0 {
		return out
	}
	for _, s := range x.services {
		if len(s.Ports) == 0 {
			continue
		}
		for _, pairs := range []recipe.Pairs{s.Environment, s.Labels} {
			for _, p := range pairs {
				note(s, p.ValuePosition, p.Value)
			}
		}
		for _, word := range s.Entrypoint {
			note(s, s.ValueAt("entrypoint"), word)
		}
		for _, word := range s.Command {
			note(s, s.ValueAt("command"), word)
		}
	}
	return out
}
