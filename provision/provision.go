// Package provision holds the interfaces between the providers of machines and
// everything that uses machines, and nothing else. A provider states its
// capabilities; users ask for capabilities, never for a provider.
package provision

import (
	"context"
	"io"
	"net"
	"net/netip"
	"slices"
	"time"
)

// Capability is something that a cluster may be able to do.
type Capability string

// The capabilities.
const (
	// Clients: vantages on the site's segment and behind its router (Cluster implements ClientNetwork).
	Clients Capability = "clients"
	// Capture: packets of every port can be recorded (Cluster implements Recorder).
	Capture Capability = "capture"
	// Power: hosts can be cut off, reset and paused (Host implements PowerControl).
	Power Capability = "power"
	// Console: the last lines of a host's console can be read (Host implements ConsoleReader).
	Console Capability = "console"
	// EdgeHost: there may be a host outside the swarm (Cluster implements EdgeNetwork).
	EdgeHost Capability = "edge"
)

// Host is one machine of a cluster. Its methods are safe for concurrent use.
type Host interface {
	Name() string
	// Addr is the host's address on the site's segment.
	Addr() netip.Addr
	CPUs() int
	MemoryMiB() int
	// Run runs a shell command as root. A command that exits other than 0 is an
	// *ExitError.
	Run(ctx context.Context, command string, stdin io.Reader) (stdout []byte, err error)
	// DialUnix connects to a unix socket on the host, such as the engine's.
	DialUnix(ctx context.Context, path string) (net.Conn, error)
}

// PowerControl is implemented by hosts of a cluster with the Power capability.
type PowerControl interface {
	// PowerOff cuts the power: the guest is not told. It returns when the machine is off.
	PowerOff(ctx context.Context) error
	// PowerOn starts a machine that is off. It returns when the host answers again.
	PowerOn(ctx context.Context) error
	// Reset is the reset button: the guest starts anew, without being told before.
	Reset(ctx context.Context) error
	Pause(ctx context.Context) error
	Resume(ctx context.Context) error
}

// ConsoleReader is implemented by hosts of a cluster with the Console capability.
type ConsoleReader interface {
	// ConsoleTail returns at most the last n lines of the console.
	ConsoleTail(n int) []string
}

// Cluster is a set of hosts on one segment.
type Cluster interface {
	Hosts() []Host
	Capabilities() []Capability
	// Close ends the machines and removes what they left. It may be called twice.
	Close() error
}

// Client is a place to speak to the site from.
type Client interface {
	Name() string
	Addr() netip.Addr
	// Network is "segment", or the prefix of the outside network that the client is in.
	Network() string
	// DialContext connects as net.Dialer does, on a fresh local port.
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// ClientNetwork is implemented by clusters with the Clients capability.
type ClientNetwork interface {
	// Clients are the vantages of the topology: at least one on the segment and
	// two in different networks behind the router.
	Clients() []Client
}

// EdgeNetwork is implemented by clusters with the EdgeHost capability.
type EdgeNetwork interface {
	// Edge is the host on the site's segment that is no node of the swarm: the place
	// of the external load balancer. It is nil if there is none.
	Edge() Host
}

// PerimeterControl is implemented by clusters whose network has a perimeter.
type PerimeterControl interface {
	// OpenPerimeter lets everything in, until the cluster is restored.
	OpenPerimeter()
}

// Recorder is implemented by clusters with the Capture capability.
type Recorder interface {
	// StartCapture records every port of the site's networks into a pcapng file
	// until stop is called. Stop returns how many frames were recorded and lost.
	StartCapture(path string) (stop func() (CaptureStats, error), err error)
}

// CaptureStats says what a capture holds.
type CaptureStats struct {
	Frames    uint64 // recorded
	Lost      uint64 // seen and not recorded, because the writer could not keep up
	Truncated bool   // the size limit was reached
	Duration  time.Duration
}

// Has says whether the cluster has a capability.
func Has(c Cluster, want Capability) bool { return slices.Contains(c.Capabilities(), want) }
