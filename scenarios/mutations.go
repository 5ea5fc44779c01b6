package scenarios

import (
	"context"
	"fmt"

	"github.com/hashicorp/go-multierror"
	"github.com/hiveproof/hiveproof/provision"
	"github.com/hiveproof/hiveproof/scenarios/recipe"
)

// mutations are at least one for every claim but those of every-host kinds that one
// breaks together.
var mutations = []Mutation{
	{
		ID: "host-for-ingress", Scenario: "stateless-mesh", Text: "the published ports are in host mode, not in the mesh",
		Judge: "mesh/(every|source|no-views)|internal/", Fails: []string{"mesh/every-host-answers", "mesh/source-hidden", "mesh/no-views"},
		mutate: func(p *Planned) { portMode(p, "powerdns", recipe.Host) },
	},
	{
		ID: "starved-replica", Scenario: "stateless-mesh", Text: "the mesh gives one replica nothing (IPVS weight 0 on every host)",
		Judge: "mesh/(every|source|balances)", Fails: []string{"mesh/balances"},
		after: func(ctx context.Context, s *scenarioRun) error { return s.onHosts(ctx, starve("| head -n 1")) },
	},
	{
		ID: "new-replica-starved", Scenario: "stateless-mesh", Text: "the mesh gives nothing to replicas that are added later",
		Judge: "mesh/scales", Fails: []string{"mesh/scales"},
		after: func(ctx context.Context, s *scenarioRun) error {
			return s.onHosts(ctx, "systemd-run -q --unit=starve sh -c "+quote("while sleep 0.2; do "+starve("| tail -n +3")+"; done"))
		},
	},
	{
		ID: "vip-for-dnsrr", Scenario: "stateless-mesh", Text: "the database's endpoint_mode is vip, not dnsrr",
		Judge: "internal/", Fails: []string{"internal/resolves-to-tasks"},
		mutate: func(p *Planned) { p.service("pdnsdb").EndpointMode = recipe.EndpointVIP },
	},
	{
		ID: "internal-published", Scenario: "stateless-mesh", Text: "the database publishes its port",
		Judge: "internal/", Fails: []string{"internal/not-exposed"},
		mutate: func(p *Planned) {
			db := p.service("pdnsdb")
			db.Ports = append(db.Ports, &recipe.Port{Target: 3306, Published: 3306, Protocol: "tcp", Mode: recipe.Host})
		},
	},
	{
		ID: "mesh-dies-with-task", Scenario: "lb-stateless-mesh", Text: "when a container dies, the hosts stop forwarding to theirs",
		Judge: "mesh/survives-task", Fails: []string{"mesh/survives-task-loss"}, onFault: stopForwarding,
	},
	{
		ID: "mesh-dies-with-host", Scenario: "lb-stateless-mesh", Text: "when a host dies, the others stop forwarding to containers",
		Judge: "mesh/survives-host", Fails: []string{"mesh/survives-host-loss"}, onFault: stopForwarding,
	},
	{
		ID: "ingress-for-host", Scenario: "stateless-global", Text: "the published ports are in the mesh, not in host mode",
		Judge: "one-to-one/[^f]", Fails: []string{"one-to-one/source-kept", "one-to-one/local-task-answers", "one-to-one/views"},
		mutate: func(p *Planned) {
			portMode(p, "powerdns", recipe.Ingress)
			p.service("powerdns").EndpointMode = recipe.EndpointVIP
		},
	},
	{
		ID: "host-left-out", Scenario: "lb-sticky-global", Text: "a constraint keeps the service off hive1",
		Judge: "one-to-one/every", Fails: []string{"one-to-one/every-host-has-one"},
		mutate: func(p *Planned) {
			svc := p.service("speedtest")
			svc.Placement.Constraints = append([]string{"node.hostname!=hive1"}, svc.Placement.Constraints...)
		},
	},
	{
		ID: "nobody-to-fall-back-to", Scenario: "lb-sticky-global", Text: "when a host dies, the others stop forwarding to containers",
		Judge: "one-to-one/fallback", Fails: []string{"one-to-one/fallback"}, onFault: stopForwarding,
	},
	{
		ID: "no-forwarded-for", Scenario: "lb-sticky-global", Text: "HAProxy does not add X-Forwarded-For",
		Judge: "lb/", Fails: []string{"lb/forwarded-for"},
		mutate: func(p *Planned) { p.Scenario.Front.breaks = "forwarded-for" },
	},
	{
		ID: "no-cookie", Scenario: "lb-sticky-global", Text: "HAProxy sets no cookie",
		Judge: "lb/", Fails: []string{"lb/sticky"},
		mutate: func(p *Planned) { p.Scenario.Front.breaks = "cookie" },
	},
	{
		ID: "sticky-without-mesh", Scenario: "lb-stateless-mesh", Text: "the balancer keeps sessions by a cookie, and the ports are in host mode",
		Judge: "mesh/not-sticky|lb/", Fails: []string{"mesh/not-sticky", "lb/source-is-lb"},
		mutate: func(p *Planned) {
			portMode(p, "speedtest", recipe.Host)
			p.Scenario.Front.Sticky = true
		},
	},
	{
		ID: "nothing-reloaded", Scenario: "builtin-lb", Text: "the new configuration and certificate are not put onto the hosts",
		Judge: "lb/", Fails: []string{"lb/reload-in-place"},
		mutate: func(p *Planned) { p.Scenario.Front.breaks = "reload" },
	},
	{
		ID: "no-nginx-stickiness", Scenario: "builtin-sticky", Text: "nginx ignores the cookie that names the container's host",
		Judge: "lb/", Fails: []string{"lb/sticky", "lb/sticky-any-door"},
		mutate: func(p *Planned) { p.Scenario.Front.breaks = "cookie" },
	},
	{
		ID: "open-perimeter", Scenario: "builtin-sticky", Text: "the router lets everything in",
		Judge: "ports/|one-to-one/source", Fails: []string{"ports/internal-range"},
		after: func(_ context.Context, s *scenarioRun) error {
			p, ok := s.Site.Cluster.(provision.PerimeterControl)
			if !ok {
				return fmt.Errorf("this provider cannot open the site's perimeter")
			}
			p.OpenPerimeter()
			return nil
		},
	},
}

func portMode(p *Planned, service string, mode recipe.PortMode) {
	for _, port := range p.service(service).Ports {
		port.Mode = mode
	}
}

// starve takes the weight in the mesh of those containers that pick chooses from
// the sorted list of a host's ingress sandbox.
func starve(pick string) string {
	const sandbox = "nsenter --net=/run/docker/netns/ingress_sbox ipvsadm"
	return "mark=$(" + sandbox + " -Ln | awk '$1 == \"FWM\" {print $2}' | head -n 1); " +
		sandbox + " -Ln | awk '$1 == \"->\" && $2 ~ /^[0-9]/ {print $2}' | sort " + pick + " | while read to; do " +
		sandbox + " -e -f $mark -r $to -m -w 0; done"
}

// stopForwarding has every host that still runs drop what is forwarded to containers.
func stopForwarding(ctx context.Context, s *scenarioRun) error {
	return s.onHosts(ctx, "iptables -I FORWARD -o docker_gwbridge -j DROP && iptables -I FORWARD -i docker_gwbridge -j DROP")
}

// onHosts runs a command on every host that has power.
func (s *scenarioRun) onHosts(ctx context.Context, command string) error {
	var problems *multierror.Error
	for _, h := range s.Site.Cluster.Hosts() {
		if h.Name() == s.off {
			continue
		}
		if _, err := h.Run(ctx, command, nil); err != nil {
			problems = multierror.Append(problems, fmt.Errorf("break the site on purpose: %w", err))
		}
	}
	return problems.ErrorOrNil()
}
