package probes

import (
	"net/netip"
	"time"

	"github.com/hiveproof/hiveproof/probes/whoami"
)

// Door is an address through which clients reach a service that is behind a load balancer.
type Door struct {
	Name string         `json:"name"` // "edge https", "hive1 http"
	Host string         `json:"host"` // the host that the balancer runs on
	Addr netip.AddrPort `json:"addr"`
	TLS  bool           `json:"tls,omitempty"`
}

// Visit is one HTTP request of a session, on a fresh connection.
type Visit struct {
	Client  Client        `json:"client"`
	Session string        `json:"session"` // the visitor's own name for its session
	Door    Door          `json:"door"`
	Path    string        `json:"path"`
	Start   time.Time     `json:"start"`
	RTT     time.Duration `json:"rtt_ns"`
	Outcome Outcome       `json:"outcome"`
	Status  int           `json:"status,omitempty"` // of HTTP; 0 if there was no response
	// Header is the response's; Answer.Header is the request's as the container got it.
	Header      map[string][]string `json:"header,omitempty"`
	Certificate string              `json:"certificate,omitempty"` // serial number of the server's certificate, in hexadecimal
	Answer      *whoami.Answer      `json:"answer,omitempty"`
	Err         string              `json:"error,omitempty"`
}

// Labelled is an address and what it belongs to.
type Labelled struct {
	Addr netip.Addr `json:"addr"`
	What string     `json:"what"` // "ingress address of hive0"
}

// Scaling is what was seen while a service's replicas were changed: before, with
// more, and with fewer again. A phase begins when the service has converged and
// its routing has settled.
type Scaling struct {
	Before, Grown, Shrunk ScalePhase
}

// ScalePhase is one of them.
type ScalePhase struct {
	Replicas  int        `json:"replicas"`
	Tasks     []string   `json:"tasks"` // IDs of those that run
	Exchanges []Exchange `json:"-"`
}

// FaultKind says what was broken.
type FaultKind string

// The faults of this version.
const (
	TaskLoss FaultKind = "task-loss" // a container was killed
	HostLoss FaultKind = "host-loss" // a host's power was cut
)

// Fault is something that was broken on purpose, and what became of it. A time
// that is zero did not happen.
type Fault struct {
	Kind     FaultKind `json:"kind"`
	Host     string    `json:"host"` // that lost its power, or on which the task ran
	Task     string    `json:"task,omitempty"`
	Led      bool      `json:"led"`                 // the host was the swarm's leader
	TaskLost bool      `json:"task_lost,omitempty"` // a task of the service ran on the host
	// Unhealthy says what was wrong before; empty if nothing was.
	Unhealthy string    `json:"unhealthy,omitempty"`
	Injected  time.Time `json:"injected"`
	Effective time.Time `json:"effective"` // seen: the container is gone, the machine is off
	Noticed   time.Time `json:"noticed"`   // the swarm says so: the task failed, the node is down
	Replaced  time.Time `json:"replaced"`  // the service runs all of its tasks again
	Ended     time.Time `json:"ended"`     // of the observation
	Healed    time.Time `json:"healed"`
	// HealProblem says what was wrong after healing; empty if nothing was.
	HealProblem string `json:"heal_problem,omitempty"`
}

// Loss is what clients saw of a published service, each asking at a steady pace,
// from some time before a fault until some time after the service was whole again.
type Loss struct {
	Fault     Fault         `json:"fault"`
	Interval  time.Duration `json:"interval_ns"` // between two questions of one client
	Clients   []Client      `json:"clients"`
	Endpoints []Endpoint    `json:"endpoints"` // on the hosts that were to go on answering
	Exchanges []Exchange    `json:"-"`
}

// Fallback is a client with several addresses of a service, tried in order until
// one answers, as a DNS client does (RFC 1034, section 5.3.3; RFC 1123, section 6.1.3.3).
type Fallback struct {
	Fault Fault         `json:"fault"`
	Tries []FallbackTry `json:"-"`
}

// FallbackTry is one question: the exchanges that were made for it, in order; the
// last one is the answer, if there is one.
type FallbackTry struct {
	Client    Client        `json:"client"`
	Addresses []string      `json:"addresses"` // hosts, in the order of trying
	Exchanges []Exchange    `json:"exchanges"`
	Took      time.Duration `json:"took_ns"`
}

// Lookup is a name that was looked up from inside a container.
type Lookup struct {
	Service   string       `json:"service"` // in whose container
	Task      string       `json:"task"`
	Node      string       `json:"node"`
	Name      string       `json:"name"`
	Addresses []netip.Addr `json:"addresses"`
	Err       string       `json:"error,omitempty"`
}

// Resolution is what a service's name should resolve to, and what it does.
type Resolution struct {
	Service string       `json:"service"`
	Mode    string       `json:"mode"` // "dnsrr" or "vip"
	Tasks   []netip.Addr `json:"tasks"`
	VIPs    []netip.Addr `json:"vips,omitempty"`
	Lookups []Lookup     `json:"lookups"`
}

// Reload is a change of a built-in load balancer's configuration and certificate
// on its hosts' volumes.
type Reload struct {
	Service       string    `json:"service"`
	TasksBefore   []string  `json:"tasks_before"` // IDs
	TasksAfter    []string  `json:"tasks_after"`
	Marker        string    `json:"marker"` // value of the response header X-Hiveproof-Config that the new configuration sets
	Certificate   string    `json:"certificate"`
	Changed       time.Time `json:"changed"` // when the last host had the new files and was told
	Before, After []Visit   `json:"-"`
}

// ConfigHeader is the response header by which a built-in load balancer's
// configuration is told from its successor.
const ConfigHeader = "X-Hiveproof-Config"

// View is the answer that a client got to a name whose answer depends on the
// client's address.
type View struct {
	Client  Client   `json:"client"`
	Host    string   `json:"host"` // asked
	Name    string   `json:"name"`
	Answers []string `json:"answers"`
	Want    string   `json:"want"` // what a server that sees the client's address answers
	Outcome Outcome  `json:"outcome"`
	Err     string   `json:"error,omitempty"`
}
