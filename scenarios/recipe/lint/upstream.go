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

// hosts calls found for each word of text that may be a host's name, with the port
// behind it or 0. bare is false where a port, // or @ says that it is a host, or
// where it is the whole text.
func hosts(text string, found func(name string, port int, bare bool)) {
	in := func(c byte) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '.' || c == '-'
	}
	for begin := 0; begin < len(text); begin++ {
		end := begin
		for end < len(text) && in(text[end]) {
			end++
		}
		if end == begin {
			continue
		}
		name, port, next := text[begin:end], 0, end
		if strings.HasPrefix(text[end:], ":") {
			for next = end + 1; next < len(text) && text[next] >= '0' && text[next] <= '9'; next++ {
			}
			if n, err := strconv.ParseUint(text[end+1:next], 10, 16); err == nil {
				port = int(n)
			}
		}
		before := text[:begin]
		whole := begin == 0 && end == len(text)
		found(name, port, port == 0 && !whole && !strings.HasSuffix(before, "//") && !strings.HasSuffix(before, "@"))
		begin = next
	}
}

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
		hosts(text, func(name string, port int, bare bool) {
			upstreams := byName[name]
			if port != 0 && hostName.MatchString(name) {
				upstreams = byPort[port]
			} else if bare {
				return
			}
			for i, u := range upstreams {
				if _, twice := out[u]; !twice && u != proxy && meet(u, proxy) {
					out[u] = reference{proxy, at, port}
				}
				if i == maxRivals {
					break
				}
			}
		})
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
