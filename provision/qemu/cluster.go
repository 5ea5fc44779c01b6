// Package qemu provides hosts as QEMU virtual machines on the embedded network
// of package fabric. It needs no root, no daemon and no open port on this
// machine, and its machines end with this process, however that ends.
package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-multierror"
	"github.com/hiveproof/hiveproof/provision"
	"github.com/hiveproof/hiveproof/provision/fabric"
	"github.com/hiveproof/hiveproof/provision/image"
	"github.com/hiveproof/hiveproof/provision/topology"
)

// The management network is apart from the site's: cutting a link of the site
// never cuts our own way to a host, and captures hold none of our traffic.
var (
	managementNet = netip.MustParsePrefix("192.168.57.0/24")
	controlAddr   = managementNet.Addr().Next() // ours
)

// Ledger is where what is created outside this process is entered first.
type Ledger interface {
	AddPath(path string) error
	AddProcess(pid int, what string) error
}

// Config is what a cluster is made from.
type Config struct {
	Topology *topology.Topology
	Image    *image.Image
	Accel    Accel
	Dir      string // for disks, logs and keys; it belongs to the cluster, which makes and removes it
	Ledger   Ledger
	// BootTimeout bounds one host's way to answering SSH; default 10 minutes.
	BootTimeout time.Duration
	// Progress is told what happened; host is empty for the cluster as a whole. It may be nil.
	Progress func(host, message string)

	// NoEdge leaves the edge host off, if there is one, once the cluster is restored
	// or ParkEdge was called.
	NoEdge bool

	overSSH bool // speak SSH to the hosts: their image has no helper yet
}

// Cluster is a set of running virtual machines and their network.
type Cluster struct {
	cfg     Config
	site    *fabric.Switch
	mgmt    *fabric.Switch
	outside map[netip.Prefix]*fabric.Switch
	router  *fabric.Router
	control *fabric.Vantage // where SSH comes from, on the management network
	clients []provision.Client
	hosts   []*Host

	mu       sync.Mutex
	identity identity
	verified map[string]bool // disks of snapshots that were read and found whole
	parked   bool            // the edge host is off, for nobody needs it

	closeOnce sync.Once
	closeErr  error
}

var (
	_ provision.Cluster          = (*Cluster)(nil)
	_ provision.ClientNetwork    = (*Cluster)(nil)
	_ provision.Recorder         = (*Cluster)(nil)
	_ provision.EdgeNetwork      = (*Cluster)(nil)
	_ provision.PerimeterControl = (*Cluster)(nil)
)

// BootError says that a host did not come up, with the end of its console.
type BootError struct {
	Host    string
	Console []string
	Err     error
}

func (e *BootError) Error() string {
	text := fmt.Sprintf("%s did not come up: %v", e.Host, e.Err)
	if len(e.Console) > 0 {
		text += "; the last lines of its console:\n  " + strings.Join(e.Console, "\n  ")
	}
	return text + "\nhiveproof doctor says what this machine can do; memory and disks of a host are set in the topology file"
}

func (e *BootError) Unwrap() error { return e.Err }

// consoleLines is how many lines of a console an error shows.
const consoleLines = 15

// Up starts the network and every host and waits until all answer SSH. On
// failure nothing is left running.
func Up(ctx context.Context, cfg Config) (_ *Cluster, err error) {
	c := newCluster(cfg)
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	if err := c.prepare(); err != nil {
		return nil, err
	}
	if err := c.boot(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

func newCluster(cfg Config) *Cluster {
	if cfg.BootTimeout == 0 {
		cfg.BootTimeout = 10 * time.Minute
	}
	if cfg.Progress == nil {
		cfg.Progress = func(string, string) {}
	}
	return &Cluster{cfg: cfg, outside: map[netip.Prefix]*fabric.Switch{}, verified: map[string]bool{}}
}

// prepare makes the keys, the network and the hosts, all still off.
func (c *Cluster) prepare() error {
	if err := os.MkdirAll(c.cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("make the hosts' directory: %w", err)
	}
	if err := c.network(); err != nil {
		return err
	}
	for i, spec := range c.cfg.Topology.Hosts {
		h, err := c.newHost(i, spec)
		if err != nil {
			return err
		}
		c.hosts = append(c.hosts, h)
	}
	id, err := newIdentity(c.cfg.Topology.Hosts)
	if err != nil {
		return err
	}
	return c.adopt(id)
}

// boot starts all hosts and waits for all of them; the first failure ends the wait.
func (c *Cluster) boot(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, h := range c.hosts {
		if err := h.start(ctx); err != nil {
			return err
		}
	}
	results := make(chan error, len(c.hosts))
	started := time.Now()
	for _, h := range c.hosts {
		go func() {
			err := h.waitReady(ctx, c.cfg.BootTimeout)
			if err == nil {
				c.cfg.Progress(h.Name(), fmt.Sprintf("answers after %.1fs", time.Since(started).Seconds()))
			}
			results <- err
		}()
	}
	var first error
	for range c.hosts {
		if err := <-results; err != nil && first == nil {
			first = err
			cancel()
		}
	}
	return first
}

// network makes the switches, the router and the vantages.
func (c *Cluster) network() error {
	top := c.cfg.Topology
	c.site, c.mgmt = fabric.NewSwitch("site"), fabric.NewSwitch("mgmt")
	c.router = fabric.NewRouter("router")
	routerOnSite := netip.PrefixFrom(top.Router(), top.Site.Bits())
	if err := c.router.AddInterface(c.site, routerOnSite); err != nil {
		return fmt.Errorf("attach the router to the site: %w", err)
	}
	var err error
	c.control, err = fabric.NewVantage(c.mgmt, fabric.VantageConfig{
		Name: "control", Addrs: []netip.Prefix{netip.PrefixFrom(controlAddr, managementNet.Bits())},
	})
	if err != nil {
		return fmt.Errorf("make the control vantage: %w", err)
	}
	for _, spec := range top.Clients {
		sw, gateway := c.site, top.Router()
		network := "segment"
		if !top.OnSegment(spec) {
			network = spec.Network.String()
			gateway = spec.Network.Addr().Next()
			if sw = c.outside[spec.Network]; sw == nil {
				sw = fabric.NewSwitch("net-" + spec.Network.Addr().String())
				c.outside[spec.Network] = sw
				if err := c.router.AddInterface(sw, netip.PrefixFrom(gateway, spec.Network.Bits())); err != nil {
					return fmt.Errorf("attach the router to %s: %w", spec.Network, err)
				}
			}
		}
		v, err := fabric.NewVantage(sw, fabric.VantageConfig{
			Name: spec.Name, Addrs: []netip.Prefix{netip.PrefixFrom(spec.Addr, spec.Network.Bits())}, Gateway4: gateway,
		})
		if err != nil {
			return fmt.Errorf("make client %s: %w", spec.Name, err)
		}
		c.clients = append(c.clients, client{Vantage: v, addr: spec.Addr, network: network})
	}
	c.closePerimeter()
	return nil
}

// firstInternalPort is the lowest port that a perimeter closes (the guide's
// section スティッキー対応内蔵ロードバランサ).
const firstInternalPort = 10000

// closePerimeter has the router stop what comes from outside to internal ports.
func (c *Cluster) closePerimeter() {
	if !c.cfg.Topology.Perimeter {
		return
	}
	for _, sw := range c.outside {
		c.router.Port(sw).SetFilter(fabric.ToDevice, fabric.Perimeter(c.cfg.Topology.Site, firstInternalPort))
	}
}

// OpenPerimeter lets everything in from outside, until the cluster is restored.
func (c *Cluster) OpenPerimeter() {
	for _, sw := range c.outside {
		c.router.Port(sw).SetFilter(fabric.ToDevice, nil)
	}
}

// attachManagement attaches a host to the management network so that it hears
// nobody but us: a host cannot reach another one's helper.
func (c *Cluster) attachManagement(host string) func(net.Conn) {
	return func(conn net.Conn) {
		us := c.control.MAC()
		c.mgmt.AttachStream(host, conn).SetFilter(fabric.ToDevice, func(frame []byte) bool {
			return bytes.Equal(frame[6:12], us)
		})
	}
}

// client is a vantage as a place to probe from.
type client struct {
	*fabric.Vantage
	addr    netip.Addr
	network string
}

func (c client) Addr() netip.Addr { return c.addr }
func (c client) Network() string  { return c.network }

func (c *Cluster) newHost(i int, spec topology.Host) (*Host, error) {
	dir := filepath.Join(c.cfg.Dir, spec.Name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, fmt.Errorf("%s: make its directory: %w", spec.Name, err)
	}
	h := &Host{cluster: c, spec: spec, dir: dir, address: nthAddr(managementNet, 11+i)}
	h.vmConfig = vmConfig{
		name: spec.Name, dir: dir, accel: c.cfg.Accel, cx16: spec.Edge,
		kernel: c.cfg.Image.Kernel, initrd: c.cfg.Image.Initrd,
		disk:      filepath.Join(dir, "disk.qcow2"),
		memoryMiB: spec.MemoryMiB, cpus: spec.CPUs,
		nics: []nic{
			{mac: macOf(spec.Addr), attach: func(conn net.Conn) { c.site.AttachStream(spec.Name, conn) }},
			{mac: macOf(h.address), attach: c.attachManagement(spec.Name)},
		},
	}
	for j := range spec.DisksMiB {
		h.vmConfig.disks = append(h.vmConfig.disks, disk{path: filepath.Join(dir, fmt.Sprintf("disk%d.qcow2", j+1)), format: "qcow2"})
	}
	return h, nil
}

// macOf derives a locally administered address from an IPv4 address, so that
// packets in a capture are easy to read.
func macOf(a netip.Addr) net.HardwareAddr {
	b := a.As4()
	return net.HardwareAddr{0x52, 0x54, b[0], b[1], b[2], b[3]}
}

func nthAddr(p netip.Prefix, n int) netip.Addr {
	a := p.Addr().As4()
	a[3] += byte(n)
	return netip.AddrFrom4(a)
}

// Hosts are the cluster's hosts in the topology's order, without the edge host.
func (c *Cluster) Hosts() []provision.Host {
	var all []provision.Host
	for _, h := range c.hosts {
		if !h.spec.Edge {
			all = append(all, h)
		}
	}
	return all
}

// Edge is the edge host; nil if the topology has none, or it is off.
func (c *Cluster) Edge() provision.Host {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range c.hosts {
		if h.spec.Edge && !c.parked {
			return h
		}
	}
	return nil
}

// ParkEdge switches the edge host off.
func (c *Cluster) ParkEdge() {
	for _, h := range c.hosts {
		if h.spec.Edge {
			h.cutPower()
		}
	}
	c.park(true)
}

func (c *Cluster) park(off bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.parked = off
}

// on are the hosts that are to run.
func (c *Cluster) on() []*Host {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(c.hosts), func(h *Host) bool { return h.spec.Edge && c.parked })
}

// Capabilities of this provider.
func (c *Cluster) Capabilities() []provision.Capability {
	return []provision.Capability{provision.Clients, provision.Capture, provision.Power, provision.Console, provision.EdgeHost}
}

// Clients are the topology's vantages.
func (c *Cluster) Clients() []provision.Client { return slices.Clone(c.clients) }

// PrivateKey is the key that the hosts let in, in OpenSSH's form.
func (c *Cluster) PrivateKey() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.identity.Control
}

// HostKey is the public key of the i-th host, as an authorized_keys line.
func (c *Cluster) HostKey(i int) string {
	h := c.hosts[i]
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.publicKey
}

// DialSSH opens a connection to a host's SSH port, for an SSH client of one's own.
func (c *Cluster) DialSSH(ctx context.Context, name string) (net.Conn, error) {
	for _, h := range c.hosts {
		if h.Name() == name {
			return h.dialSSH(ctx)
		}
	}
	var names []string
	for _, h := range c.hosts {
		names = append(names, h.Name())
	}
	return nil, fmt.Errorf("no host is called %q; the hosts are %s", name, strings.Join(names, ", "))
}

// siteSwitches are the site's segment and the networks behind the router.
func (c *Cluster) siteSwitches() []*fabric.Switch {
	switches := []*fabric.Switch{c.site}
	for _, sw := range c.outside {
		switches = append(switches, sw)
	}
	return switches
}

// resetNetwork heals every link and lets switches and clients forget what they learned.
func (c *Cluster) resetNetwork() {
	for _, sw := range c.siteSwitches() {
		for _, p := range sw.Ports() {
			for _, d := range []fabric.Direction{fabric.FromDevice, fabric.ToDevice} {
				p.SetImpairment(d, fabric.Impairment{})
				p.SetFilter(d, nil)
			}
		}
		sw.Flush()
	}
	c.closePerimeter()
	c.mgmt.Flush()
	c.router.ForgetNeighbors()
	c.control.ForgetNeighbors()
	for _, cl := range c.clients {
		cl.(client).ForgetNeighbors()
	}
}

// StartCapture records the site's segment and the networks behind the router.
func (c *Cluster) StartCapture(path string) (func() (provision.CaptureStats, error), error) {
	switches := c.siteSwitches()
	started := time.Now()
	capture, err := fabric.StartCapture(path, fabric.CaptureOptions{}, switches...)
	if err != nil {
		return nil, fmt.Errorf("start the capture: %w", err)
	}
	return func() (provision.CaptureStats, error) {
		stats, err := capture.Stop()
		if err != nil {
			return provision.CaptureStats{}, fmt.Errorf("stop the capture: %w", err)
		}
		return provision.CaptureStats{
			Frames: stats.Frames, Lost: stats.Lost, Truncated: stats.Truncated, Duration: time.Since(started),
		}, nil
	}, nil
}

// Close cuts the power of every host, takes the network down and removes the
// cluster's disks.
func (c *Cluster) Close() error {
	c.closeOnce.Do(func() {
		var problems *multierror.Error
		for _, h := range c.hosts {
			if err := h.control().Close(); err != nil && h.isRunning() {
				problems = multierror.Append(problems, err)
			}
			h.cutPower()
		}
		for _, cl := range c.clients {
			cl.(client).Close()
		}
		if c.control != nil {
			c.control.Close()
		}
		if c.router != nil {
			c.router.Close()
		}
		for _, sw := range c.outside {
			sw.Close()
		}
		for _, sw := range []*fabric.Switch{c.site, c.mgmt} {
			if sw != nil {
				sw.Close()
			}
		}
		if err := os.RemoveAll(c.cfg.Dir); err != nil {
			problems = multierror.Append(problems, fmt.Errorf("remove the lab's files: %w", err))
		}
		c.closeErr = problems.ErrorOrNil()
	})
	return c.closeErr
}
