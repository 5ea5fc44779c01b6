package scenarios

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"
	"text/template"

	"github.com/hashicorp/go-multierror"
	"github.com/hiveproof/hiveproof/probes"
	"github.com/hiveproof/hiveproof/probes/whoami"
	"github.com/hiveproof/hiveproof/provision"
	"github.com/hiveproof/hiveproof/scenarios/recipe"
)

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
	Proxy   string `json:",omitempty"` // the service that is the built-in load balancer
	Sticky  bool   `json:",omitempty"` // it keeps a session on one container, by a cookie

	breaks string // what a mutation leaves out: "forwarded-for", "cookie" or "reload"
}

func (f *Front) builtIn() bool { return f != nil && f.Kind == BuiltIn }

// site is the name by which visitors call the service.
func (f *Front) site() string { return f.Service + ".hiveproof.test" }

// HostFile is a file that is put on the hosts before anything is deployed, as the
// addon role of hive-builder does for bind volumes.
type HostFile struct {
	Path    string // on the host
	Content string
	Host    string `json:",omitempty"` // empty for every host
}

//go:embed templates
var templateFiles embed.FS

var templates = template.Must(template.ParseFS(templateFiles, "templates/*"))

func render(name string, data any) (string, error) {
	var text bytes.Buffer
	if err := templates.ExecuteTemplate(&text, name, data); err != nil {
		return "", fmt.Errorf("make %s: %w", name, err)
	}
	return text.String(), nil
}

// The places of the built-in load balancer's volumes in its container, as the
// guide's recipes have them.
const (
	nginxConfig = "/etc/nginx/conf.d"
	nginxPKI    = "/etc/pki/tls"
	haproxyDir  = "/etc/haproxy"
)

type hostAddr struct {
	Name string
	Addr netip.Addr
}

func hostAddrs(hosts []provision.Host) []hostAddr {
	var all []hostAddr
	for _, h := range hosts {
		all = append(all, hostAddr{h.Name(), h.Addr()})
	}
	return all
}

// frontData is what the templates of load balancers are filled in with.
type frontData struct {
	*Front
	Scenario, Host, Break, Marker, PKI, Certificate, Check string
	Hosts                                                  []hostAddr
	Last, Share                                            int
	Target, Published                                      uint16
}

// prepare puts the scenario's files onto the hosts, and those of its load balancer.
func (s *scenarioRun) prepare(ctx context.Context) error {
	var problems *multierror.Error
	for _, f := range s.planned.Scenario.Files {
		for _, h := range s.Site.Cluster.Hosts() {
			if f.Host == "" || f.Host == h.Name() {
				problems = multierror.Append(problems, writeFile(ctx, h, f.Path, f.Content))
			}
		}
	}
	front := s.planned.Scenario.Front
	switch {
	case front == nil:
	case front.Kind == External:
		problems = multierror.Append(problems, s.prepareEdge(ctx))
	case len(s.planned.Scenario.Files) == 0:
		problems = multierror.Append(problems, s.writeBuiltIn(ctx, s.Site.Cluster.Hosts(), ""))
	}
	// Whatever else is bound must at least be there: the engine refuses a task otherwise.
	for _, svc := range s.planned.Deployed.Services {
		for _, v := range svc.Volumes {
			if v.Type != recipe.TypeBind {
				continue
			}
			for _, h := range s.Site.Cluster.Hosts() {
				if _, err := h.Run(ctx, "test -e "+quote(v.Source)+" || mkdir -p "+quote(v.Source), nil); err != nil {
					problems = multierror.Append(problems, fmt.Errorf("make the directory of %s's volume: %w", svc.Name, err))
				}
			}
		}
	}
	return problems.ErrorOrNil()
}

func writeFile(ctx context.Context, h provision.Host, name, content string) error {
	if _, err := h.Run(ctx, fmt.Sprintf("mkdir -p %s && cat > %s", quote(path.Dir(name)), quote(name)), strings.NewReader(content)); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// quote makes one word of a text for a shell.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// frontOf fills in what the load balancer's configuration is made of.
func (s *scenarioRun) frontOf(front *Front) (frontData, error) {
	hosts := hostAddrs(s.Site.Cluster.Hosts())
	data := frontData{
		Front: front, Scenario: s.planned.Scenario.ID, Break: front.breaks, Hosts: hosts,
		Last: len(hosts) - 1, Share: 100 / len(hosts), PKI: nginxPKI, Check: whoami.Path,
	}
	svc := s.planned.Recipe.Service(front.Service)
	if svc == nil {
		return data, fmt.Errorf("the service %s that is behind the load balancer is not defined", front.Service)
	}
	if len(svc.Ports) > 0 {
		data.Target, data.Published = svc.Ports[0].Target, svc.Ports[0].Published
	} else if l := s.d.Listens[svc.Name]; len(l) > 0 {
		data.Target = uint16(l[0].Port)
	}
	return data, nil
}

// prepareEdge configures HAProxy on the edge host and starts it anew.
func (s *scenarioRun) prepareEdge(ctx context.Context) error {
	edge, err := s.edge()
	if err != nil {
		return err
	}
	data, err := s.frontOf(s.planned.Scenario.Front)
	if err != nil {
		return err
	}
	data.Certificate = haproxyDir + "/hiveproof.pem"
	config, err := render("haproxy.cfg", data)
	if err != nil {
		return err
	}
	if s.pki, err = newPKI(); err != nil {
		return err
	}
	cert, err := s.pki.issue(data.site())
	if err != nil {
		return err
	}
	if err := writeFile(ctx, edge, data.Certificate, cert.certPEM+cert.keyPEM); err != nil {
		return err
	}
	if err := writeFile(ctx, edge, haproxyDir+"/haproxy.cfg", config); err != nil {
		return err
	}
	if _, err := edge.Run(ctx, "haproxy -c -q -f "+haproxyDir+"/haproxy.cfg && systemctl restart haproxy", nil); err != nil {
		return fmt.Errorf("start HAProxy: %w", err)
	}
	return nil
}

func (s *scenarioRun) edge() (provision.Host, error) {
	if network, ok := s.Site.Cluster.(provision.EdgeNetwork); ok && provision.Has(s.Site.Cluster, provision.EdgeHost) {
		if edge := network.Edge(); edge != nil {
			return edge, nil
		}
	}
	return nil, fmt.Errorf("the external load balancer needs %s", needsEdge)
}

// writeBuiltIn puts the configuration and a new certificate of the built-in load
// balancer into its volumes on hosts. marker goes into a response header.
func (s *scenarioRun) writeBuiltIn(ctx context.Context, hosts []provision.Host, marker string) error {
	front := s.planned.Scenario.Front
	proxy := s.planned.Recipe.Service(front.Proxy)
	if proxy == nil {
		return fmt.Errorf("the service %s that is to be the load balancer is not defined", front.Proxy)
	}
	data, err := s.frontOf(front)
	if err != nil {
		return err
	}
	data.Marker = marker
	source := map[string]string{}
	for _, v := range proxy.Volumes {
		source[strings.TrimSuffix(v.Target, "/")] = v.Source
	}
	for _, target := range []string{nginxConfig, nginxPKI} {
		if source[target] == "" {
			return fmt.Errorf("service %s has no volume at %s, where its configuration would be put: give the files in the scenario (files:)", front.Proxy, target)
		}
	}
	if s.pki == nil {
		if s.pki, err = newPKI(); err != nil {
			return err
		}
	}
	cert, err := s.pki.issue(data.site())
	if err != nil {
		return err
	}
	s.serial = cert.serial
	var problems *multierror.Error
	for _, h := range hosts {
		data.Host = h.Name()
		config, err := render("nginx.conf", data)
		if err != nil {
			return err
		}
		problems = multierror.Append(problems,
			writeFile(ctx, h, path.Join(source[nginxPKI], "site.crt"), cert.certPEM),
			writeFile(ctx, h, path.Join(source[nginxPKI], "site.key"), cert.keyPEM),
			writeFile(ctx, h, path.Join(source[nginxConfig], "site.conf"), config))
	}
	return problems.ErrorOrNil()
}

// doors are the addresses through which visitors come to the service.
func (s *scenarioRun) doors() ([]probes.Door, error) {
	front := s.planned.Scenario.Front
	var doors []probes.Door
	add := func(h provision.Host, port uint16, tls bool) {
		scheme := "http"
		if tls {
			scheme = "https"
		}
		doors = append(doors, probes.Door{Name: h.Name() + " " + scheme, Host: h.Name(), Addr: netip.AddrPortFrom(h.Addr(), port), TLS: tls})
	}
	if front.Kind == External {
		edge, err := s.edge()
		if err != nil {
			return nil, err
		}
		add(edge, 80, false)
		add(edge, 443, true)
		return doors, nil
	}
	proxy := s.planned.Recipe.Service(front.Proxy)
	for _, h := range s.Site.Cluster.Hosts() {
		for _, p := range proxy.Ports {
			app := s.d.appOf(proxy.Name, p.Target, string(p.Protocol))
			// A certificate that is the scenario's own cannot be verified here.
			if app == "http" || app == "https" && s.pki != nil {
				add(h, p.Published, app == "https")
			}
		}
	}
	if len(doors) == 0 {
		return nil, fmt.Errorf("service %s publishes no port that speaks HTTP, or HTTPS with a certificate made here", front.Proxy)
	}
	return slices.Clip(doors), nil
}
