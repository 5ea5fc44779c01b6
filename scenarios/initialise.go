package scenarios

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/hiveproof/hiveproof/probes/whoami"
	"github.com/hiveproof/hiveproof/provision/pull"
	"github.com/hiveproof/hiveproof/provision/swarm"
	"github.com/hiveproof/hiveproof/scenarios/recipe"
)

// initialisers do what hive-builder's initialise roles would do in a service's
// container, for the roles that the guide's recipes name. Others are noted.
var initialisers = map[string]func(*scenarioRun, context.Context, *recipe.Service) error{
	"powerdns-init": (*scenarioRun).initPowerDNS,
	// It brings what Ansible needs to run in a container, and so nothing here.
	"python-aptk": func(*scenarioRun, context.Context, *recipe.Service) error { return nil },
}

// pull brings the images that are to run from their registries to the hosts, which
// reach none themselves.
func (s *scenarioRun) pull(ctx context.Context) error {
	dir := s.planned.Scenario.Pull
	if dir == "" {
		return nil
	}
	for _, image := range slices.Compact(slices.Sorted(maps.Values(s.d.Images))) {
		if strings.HasPrefix(image, "hiveproof/") {
			continue // made here, and on the hosts
		}
		archive, err := pull.Image(ctx, image, dir)
		if err != nil {
			return err
		}
		if err := s.Site.Swarm.LoadImage(ctx, func() (io.ReadCloser, error) { return os.Open(archive) }); err != nil {
			return err
		}
	}
	return nil
}

const initTimeout = 2 * time.Minute

// initialise runs the services' initialise roles once they run.
func (s *scenarioRun) initialise(ctx context.Context) error {
	for _, svc := range s.planned.Recipe.Services {
		for _, role := range svc.InitializeRoles {
			do, known := initialisers[role]
			if !known || s.planned.Scenario.Workload != StandIns {
				s.out.Notes = append(s.out.Notes, fmt.Sprintf("%s: its initialise role %s is not run", svc.Name, role))
				continue
			}
			if s.broken[svc.Name] != nil {
				continue
			}
			if err := do(s, ctx, svc); err != nil {
				return fmt.Errorf("initialise %s by the role %s: %w", svc.Name, role, err)
			}
		}
	}
	return nil
}

// initPowerDNS puts the probes' zone into the database that PowerDNS answers from.
func (s *scenarioRun) initPowerDNS(ctx context.Context, svc *recipe.Service) error {
	var networks []string
	for _, c := range s.clients {
		if n := viewOf(c); !slices.Contains(networks, n) {
			networks = append(networks, n)
		}
	}
	sql, err := render("powerdns.sql", map[string]any{
		"Zone": trimDot(zone), "View": trimDot(viewName), "Whoami": trimDot(whoami.Zone),
		"Hosts": hostAddrs(s.Site.Cluster.Hosts()), "Networks": networks,
	})
	if err != nil {
		return err
	}
	const client = `exec env MYSQL_PWD="$MYSQL_PASSWORD" mariadb -h "$MYSQL_HOST" -u "${MYSQL_USER:-powerdns}" "${MYSQL_DATABASE:-powerdns}" -e "$1"`
	// The server may still wait for its database, and tasks that fail are replaced.
	return swarm.Until(ctx, initTimeout, "wait for the database", func(ctx context.Context) error {
		tasks, err := s.Site.Swarm.Tasks(ctx, svc.Name)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(tasks, swarm.Task.Running)
		if i < 0 {
			return fmt.Errorf("no task of %s runs", svc.Name)
		}
		_, err = s.Site.Swarm.Exec(ctx, tasks[i], "sh", "-c", client, "sh", sql)
		return err
	})
}

func trimDot(name string) string { return name[:len(name)-1] }
