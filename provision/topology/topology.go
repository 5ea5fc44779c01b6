// Package topology reads the description of a lab: its segment, hosts and
// clients. The same file serves every provider.
package topology

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

//go:embed default.yml
var defaultSource []byte

// Topology is a lab as its file describes it, checked and with every default filled in.
type Topology struct {
	Name string
	Site netip.Prefix // the segment; its first address is the router's
	// Perimeter: the router lets nothing from outside the segment reach ports of
	// 10000 and above, as the firewall of a cloud site does.
	Perimeter bool
	Hosts     []Host
	Clients   []Client
}

// Swarm are the hosts that hold containers.
func (t *Topology) Swarm() []Host {
	return slices.DeleteFunc(slices.Clone(t.Hosts), func(h Host) bool { return h.Edge })
}

// Edge is the host outside the swarm that has the external load balancer; nil if
// there is none.
func (t *Topology) Edge() *Host {
	for i, h := range t.Hosts {
		if h.Edge {
			return &t.Hosts[i]
		}
	}
	return nil
}

// Host is one machine.
type Host struct {
	Name      string
	Addr      netip.Addr
	Manager   bool // swarm manager; the first three of the swarm unless the file says otherwise
	Edge      bool // no node of the swarm: the external load balancer is here
	CPUs      int
	MemoryMiB int
	DiskMiB   int   // the system disk
	DisksMiB  []int // further disks, empty
}

// Client is a place to speak to the site from.
type Client struct {
	Name string
	Addr netip.Addr
	// Network is the site's prefix for a client on the segment, else the outside
	// network behind the router that the client is in.
	Network netip.Prefix
}

// OnSegment says whether the client is on the site's segment.
func (t *Topology) OnSegment(c Client) bool { return c.Network == t.Site }

// Router is the router's address on the segment.
func (t *Topology) Router() netip.Addr { return t.Site.Masked().Addr().Next() }

// Problem is something wrong in a topology file.
type Problem struct {
	File         string
	Line, Column int // 0 if it concerns the file as a whole
	Message      string
}

func (p *Problem) Error() string {
	if p.Line == 0 {
		return fmt.Sprintf("%s: %s", p.File, p.Message)
	}
	return fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Column, p.Message)
}

// Default is the lab that DESIGN.md describes: hive0 to hive2 on 192.168.56.0/24,
// one client on the segment and two in different networks behind the router.
func Default() *Topology {
	t, err := Parse("default.yml", defaultSource)
	if err != nil {
		panic(err) // embedded, and parsed in a test
	}
	return t
}

// Load reads a topology file. What is wrong in it is returned as a *Problem.
func Load(path string) (*Topology, error) {
	src, err := os.ReadFile(path)
	if err != nil {
		return nil, &Problem{File: path, Message: "cannot be read: " + errors.Unwrap(err).Error()}
	}
	return Parse(path, src)
}

type file struct {
	Name string `yaml:"name"`
	Site struct {
		CIDR      string `yaml:"cidr"`
		Perimeter bool   `yaml:"perimeter"`
	} `yaml:"site"`
	Hosts []struct {
		Name    string   `yaml:"name"`
		Address string   `yaml:"address"`
		Role    string   `yaml:"role"`
		CPUs    int      `yaml:"cpus"`
		Memory  string   `yaml:"memory"`
		Disk    string   `yaml:"disk"`
		Disks   []string `yaml:"disks"`
	} `yaml:"hosts"`
	Clients []struct {
		Name    string `yaml:"name"`
		Address string `yaml:"address"`
		Network string `yaml:"network"`
	} `yaml:"clients"`
}

// The limits and defaults of a host.
const (
	defaultCPUs      = 1
	defaultMemoryMiB = 1024
	minMemoryMiB     = 512
	DefaultDiskMiB   = 8 << 10
	maxHosts         = 9
	firstHost        = 11 // hive0's last octet
	edgeHost         = 20
)

var hostName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}$`)

// Parse reads a topology; name is what messages call the file.
func Parse(name string, src []byte) (*Topology, error) {
	tree, err := parser.ParseBytes(src, 0)
	if err != nil {
		return nil, yamlProblem(name, err)
	}
	var f file
	err = yaml.NewDecoder(bytes.NewReader(src), yaml.Strict()).Decode(&f)
	if errors.Is(err, io.EOF) {
		return nil, &Problem{File: name, Message: "is empty: at least one host is needed"}
	}
	if err != nil {
		return nil, yamlProblem(name, err)
	}
	c := &checker{file: name, tree: tree}
	t := c.check(&f)
	if c.problem != nil {
		return nil, c.problem
	}
	return t, nil
}

func yamlProblem(name string, err error) error {
	p := &Problem{File: name, Message: err.Error()}
	var at yaml.Error
	if errors.As(err, &at) {
		p.Message = at.GetMessage()
		if token := at.GetToken(); token != nil {
			p.Line, p.Column = token.Position.Line, token.Position.Column
		}
	}
	return p
}

// checker turns the file into a Topology and keeps the first problem.
type checker struct {
	file    string
	tree    *ast.File
	problem *Problem
}

// fail reports a problem at the node of a YAML path such as "$.hosts[1].memory", or
// at the one around it if a default takes its place.
func (c *checker) fail(path, format string, args ...any) {
	if c.problem != nil {
		return
	}
	c.problem = &Problem{File: c.file, Message: fmt.Sprintf(format, args...)}
	for ; path != "$"; path = path[:strings.LastIndexByte(path, '.')] {
		p, err := yaml.PathString(path)
		if err != nil {
			return
		}
		node, err := p.FilterFile(c.tree)
		if err != nil || node == nil {
			continue
		}
		if token := node.GetToken(); token != nil {
			c.problem.Line, c.problem.Column = token.Position.Line, token.Position.Column
		}
		return
	}
}

func (c *checker) check(f *file) *Topology {
	t := &Topology{Name: f.Name}
	if t.Name == "" {
		t.Name = strings.TrimSuffix(c.file, ".yml")
	}
	cidr := f.Site.CIDR
	if cidr == "" {
		cidr = "192.168.56.0/24"
	}
	site, err := netip.ParsePrefix(cidr)
	if err != nil || !site.Addr().Is4() || site.Bits() > 26 || site.Bits() < 16 || site != site.Masked() {
		c.fail("$.site.cidr", "site.cidr %q: want an IPv4 network of /16 to /26 such as 192.168.56.0/24", cidr)
		return nil
	}
	t.Site, t.Perimeter = site, f.Site.Perimeter
	if len(f.Hosts) == 0 || len(f.Hosts) > maxHosts {
		c.fail("$.hosts", "%d hosts: want 1 to %d", len(f.Hosts), maxHosts)
		return nil
	}
	names, addrs := map[string]string{}, map[netip.Addr]string{t.Router(): "the router"}
	claim := func(path, name string, addr netip.Addr) {
		if other, taken := names[name]; taken {
			c.fail(path+".name", "name %q is given twice (also to %s)", name, other)
		}
		if other, taken := addrs[addr]; taken {
			c.fail(path, "address %s is given twice (also to %s)", addr, other)
		}
		names[name], addrs[addr] = "another", name
	}
	for i, fh := range f.Hosts {
		path := fmt.Sprintf("$.hosts[%d]", i)
		n := len(t.Swarm()) // so many swarm hosts are before this one
		h := Host{Name: fh.Name, CPUs: fh.CPUs, Manager: n < 3, Edge: fh.Role == "edge"}
		if h.Edge {
			if t.Edge() != nil {
				c.fail(path+".role", "a second edge host: one is enough")
			}
			h.Manager = false
			if h.Name == "" {
				h.Name = "edge"
			}
		}
		if h.Name == "" {
			h.Name = fmt.Sprintf("hive%d", n)
		}
		if !hostName.MatchString(h.Name) {
			c.fail(path+".name", "host name %q: want lower-case letters, digits and hyphens, a letter first", h.Name)
		}
		h.Addr = nth(site, firstHost+n)
		if h.Edge {
			h.Addr = nth(site, edgeHost)
		}
		if fh.Address != "" {
			if h.Addr, err = netip.ParseAddr(fh.Address); err != nil || !site.Contains(h.Addr) {
				c.fail(path+".address", "address %q of %s: want one in %s", fh.Address, h.Name, site)
			}
		}
		switch fh.Role {
		case "", "edge":
		case "manager", "worker":
			h.Manager = fh.Role == "manager"
		default:
			c.fail(path+".role", "role %q of %s: want manager, worker or edge", fh.Role, h.Name)
		}
		if h.CPUs == 0 {
			h.CPUs = defaultCPUs
		}
		if h.CPUs < 1 || h.CPUs > 32 {
			c.fail(path+".cpus", "cpus %d of %s: want 1 to 32", h.CPUs, h.Name)
		}
		h.MemoryMiB = c.size(path+".memory", "memory of "+h.Name, fh.Memory, defaultMemoryMiB, minMemoryMiB)
		h.DiskMiB = c.size(path+".disk", "disk of "+h.Name, fh.Disk, DefaultDiskMiB, DefaultDiskMiB)
		for j, d := range fh.Disks {
			h.DisksMiB = append(h.DisksMiB, c.size(fmt.Sprintf("%s.disks[%d]", path, j), "disk of "+h.Name, d, 0, 1))
		}
		claim(path, h.Name, h.Addr)
		t.Hosts = append(t.Hosts, h)
	}
	if !slices.ContainsFunc(t.Hosts, func(h Host) bool { return h.Manager }) {
		c.fail("$.hosts", "no host is a manager: a swarm needs one")
	}
	c.clients(f, t, claim)
	return t
}

func (c *checker) clients(f *file, t *Topology, claim func(path, name string, addr netip.Addr)) {
	if len(f.Clients) == 0 {
		t.Clients = []Client{
			{Name: "segment", Addr: nth(t.Site, 50), Network: t.Site},
			{Name: "outside-a", Addr: netip.MustParseAddr("198.51.100.10"), Network: netip.MustParsePrefix("198.51.100.0/24")},
			{Name: "outside-b", Addr: netip.MustParseAddr("203.0.113.10"), Network: netip.MustParsePrefix("203.0.113.0/24")},
		}
		for _, client := range t.Clients {
			claim("$.hosts", client.Name, client.Addr)
		}
		return
	}
	for i, fc := range f.Clients {
		path := fmt.Sprintf("$.clients[%d]", i)
		if !hostName.MatchString(fc.Name) {
			c.fail(path+".name", "client name %q: want lower-case letters, digits and hyphens, a letter first", fc.Name)
		}
		addr, err := netip.ParseAddr(fc.Address)
		if err != nil || !addr.Is4() {
			c.fail(path+".address", "address %q of client %s: want an IPv4 address", fc.Address, fc.Name)
			continue
		}
		client := Client{Name: fc.Name, Addr: addr, Network: t.Site}
		if fc.Network != "" {
			client.Network, err = netip.ParsePrefix(fc.Network)
			if err != nil || !client.Network.Contains(addr) || client.Network.Bits() > 30 {
				c.fail(path+".network", "network %q of client %s: want a prefix that contains %s", fc.Network, fc.Name, addr)
				continue
			}
			client.Network = client.Network.Masked()
		} else if !t.Site.Contains(addr) {
			client.Network = netip.PrefixFrom(addr, 24).Masked()
		}
		if client.Network != t.Site && client.Network.Overlaps(t.Site) {
			c.fail(path, "network %s of client %s overlaps the site's %s", client.Network, fc.Name, t.Site)
		}
		if client.Network != t.Site && addr == client.Network.Addr().Next() {
			c.fail(path+".address", "address %s of client %s is the router's in %s", addr, fc.Name, client.Network)
		}
		claim(path, client.Name, client.Addr)
		t.Clients = append(t.Clients, client)
	}
}

// size reads "1GiB", "512MiB", "1.5g"; units are powers of 1024, as QEMU's.
func (c *checker) size(path, what, text string, fallback, least int) int {
	if text == "" {
		return fallback
	}
	n, err := units.RAMInBytes(text)
	if err != nil {
		c.fail(path, "%s: %q is no size: want one such as 1GiB", what, text)
		return fallback
	}
	mib := int(n >> 20)
	if mib < least {
		c.fail(path, "%s: %s is too little: want at least %d MiB", what, text, least)
	}
	return mib
}

// nth is the n-th address of an IPv4 network.
func nth(p netip.Prefix, n int) netip.Addr {
	a := p.Masked().Addr().As4()
	v := uint32(a[0])<<24 | uint32(a[1])<<16 | uint32(a[2])<<8 | uint32(a[3])
	v += uint32(n)
	return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
}
