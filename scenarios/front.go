package scenarios

// FrontKind says where a load balancer is.
type FrontKind string

// The load balancers of the guide.
const (
	// External: HAProxy on the edge host (ロードバランサ背後…).
	External FrontKind = "external"
	// BuiltIn: a service of the recipe itself (内蔵ロードバランサ).
	BuiltIn FrontKind = "built-in"
)

// Front is a load balancer before a service.
type Front struct {
	Kind    FrontKind
	Service string // that is behind it
	Proxy   string // the service that is the built-in load balancer
	Sticky  bool   // it keeps a session on one container, by a cookie
}

func (f *Front) builtIn() bool { return f != nil && f.Kind == BuiltIn }

// HostFile is a file that is put on the hosts before anything is deployed, as the
// addon role of hive-builder does for bind volumes.
type HostFile struct {
	Path    string // on the host
	Content string
	Host    string // empty for every host
}
