package recipe

import (
	"regexp"
	"strings"
)

// Protocol is a port's transport protocol.
type Protocol string

// The protocols of a port. TCP is the default.
const (
	TCP  Protocol = "tcp"
	UDP  Protocol = "udp"
	SCTP Protocol = "sctp"
)

// PortMode is how a port is published.
type PortMode string

// The port modes. Ingress, the routing mesh, is the default; Host publishes on
// the host where the task runs.
const (
	Ingress PortMode = "ingress"
	Host    PortMode = "host"
)

// Port is a published port.
type Port struct {
	Position  Position
	Target    uint16 // in the container
	Published uint16 // on the hosts
	Protocol  Protocol
	Mode      PortMode
	// Assigned is true if the file does not say Published and the number was
	// taken from FirstAssignedPort upward.
	Assigned bool

	node *node // a map in long syntax, a string in short
}

// At is where the file gives the key of a port in long syntax, or the port's own
// position.
func (p *Port) At(key string) Position { return keyPosition(p.node, key, p.Position) }

// ValueAt is where the value of a key of a port in long syntax begins, or the
// port's own position.
func (p *Port) ValueAt(key string) Position { return valuePosition(p.node, key, p.Position) }

// Known reports whether the field of key (as in long syntax) holds what the file
// says, see Service.Known.
func (p *Port) Known(key string) bool {
	if p.node.kind == kindMap {
		return known(p.node, key)
	}
	return !p.node.unknown
}

func (d *decoder) ports(s *Service, key string, n *node) {
	if !d.isList(n, key) {
		return
	}
	for _, item := range n.items {
		p := &Port{Position: item.pos, Protocol: TCP, Mode: Ingress, node: item}
		d.watch(item, func() { d.port(p, item) })
		s.Ports = append(s.Ports, p)
	}
}

func (d *decoder) port(p *Port, n *node) {
	switch n.kind {
	case kindMap:
		fields(d, n, "a port", portKeys, p, nil)
		if n.get("target_port") == nil {
			d.complain(n.pos, "a port needs target_port")
		}
	case kindString:
		d.shortPort(p, n)
	case kindInt:
		d.complain(n.pos, "port %s is a number to YAML and hive-builder takes strings and maps: quote it", n.text)
	default:
		d.complain(n.pos, `a port must be a string such as "8080:80/tcp" or a map, not %s`, n.describe())
	}
}

var portKeys = map[string]field[*Port]{
	"target_port":    func(d *decoder, p *Port, key string, n *node) { p.Target = d.portNumber(n, key) },
	"published_port": func(d *decoder, p *Port, key string, n *node) { p.Published = d.portNumber(n, key) },
	"protocol":       func(d *decoder, p *Port, key string, n *node) { p.Protocol = choice(d, n, key, TCP, UDP, SCTP) },
	"mode":           func(d *decoder, p *Port, key string, n *node) { p.Mode = choice(d, n, key, Ingress, Host) },
}

func (d *decoder) portNumber(n *node, what string) uint16 {
	return uint16(d.int(n, what, 1, 65535))
}

var shortPattern = regexp.MustCompile(`^(?:([0-9]+):)?([0-9]+)(?:/(.*))?$`)

// shortPort reads "80", "8080:80" and "53:53/udp".
func (d *decoder) shortPort(p *Port, n *node) {
	if d.pending(n) {
		return
	}
	m := shortPattern.FindStringSubmatch(n.text)
	if m == nil {
		switch {
		case strings.Contains(n.text, "-"):
			d.complain(n.pos, "port %s: hive-builder takes no ranges", quote(n.text))
		case strings.Count(n.text, ":") > 1:
			d.complain(n.pos, "port %s: hive-builder publishes on every address, none can be named", quote(n.text))
		default:
			d.complain(n.pos, `a port must be such as "80", "8080:80" or "53:53/udp", not %s`, quote(n.text))
		}
		return
	}
	number := func(text, what string) uint16 {
		v, ok := parseInt(strings.TrimLeft(text, "0"))
		if !ok || v < 1 || v > 65535 {
			d.complain(n.pos, "%s of port %s must be between 1 and 65535", what, quote(n.text))
			return 0
		}
		return uint16(v)
	}
	if m[1] != "" {
		p.Published = number(m[1], "the published number")
	}
	p.Target = number(m[2], "the target")
	if strings.Contains(n.text, "/") {
		p.Protocol = choice(d, &node{kind: kindString, text: m[3], pos: n.pos}, "the protocol of port "+quote(n.text), TCP, UDP, SCTP)
	}
}

// assignPorts numbers the ports that say no number. As in hive-builder a
// service's target port has one number for all protocols, and a number that the
// service gives earlier for the same target is used again; unlike there, service
// and port are no joined text that two services can share, and a number given
// later in the file is never taken.
func (d *decoder) assignPorts(r *Recipe) {
	type target struct {
		service int
		port    uint16
	}
	type socket struct {
		published uint16
		protocol  Protocol
	}
	taken := make(map[uint16]bool)
	for _, s := range r.Services {
		for _, p := range s.Ports {
			taken[p.Published] = true
		}
	}
	known := make(map[target]uint16)
	next := FirstAssignedPort
	for i, s := range r.Services {
		bound := make(map[socket]bool)
		for _, p := range s.Ports {
			if p.Published != 0 {
				known[target{i, p.Target}] = p.Published
				bound[socket{p.Published, p.Protocol}] = true
			}
		}
		for _, p := range s.Ports {
			if p.Published != 0 || p.Target == 0 || p.node.get("published_port") != nil {
				continue
			}
			p.Assigned = true
			if number, ok := known[target{i, p.Target}]; ok && !bound[socket{number, p.Protocol}] {
				p.Published = number
				bound[socket{number, p.Protocol}] = true
				continue
			}
			for next <= LastAssignedPort && taken[uint16(next)] {
				next++
			}
			if next > LastAssignedPort {
				d.service = s.Name
				d.complain(p.Position, "no number is left for this port between %d and %d", FirstAssignedPort, LastAssignedPort)
				continue
			}
			p.Published = uint16(next)
			taken[p.Published] = true
			known[target{i, p.Target}] = p.Published
			bound[socket{p.Published, p.Protocol}] = true
		}
	}
}
