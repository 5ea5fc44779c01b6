package scenarios

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hiveproof/hiveproof/probes"
	"github.com/hiveproof/hiveproof/scenarios/recipe"
)

// Claim is a sentence of the guide that a machine can check.
type Claim struct {
	ID    string
	Text  string
	Guide string // the guide's section that makes it
	Axes  string // what it applies to: places on the axes, joined by " + "

	// Applies says whether a service's axes derive the claim.
	Applies func(recipe.Axes) bool
	// Judgeable says whether there is anything to judge on a service that does not derive it.
	Judgeable func(recipe.Axes) bool
	judge     func(*Observations, string) probes.Judgement
}

// Claims returns every claim in the order of reports.
func Claims() []Claim { return slices.Clone(claims) }

// WhyNot says why the place of a service on the axes does not derive the claim;
// empty if it does.
func (c Claim) WhyNot(a recipe.Axes) string {
	if c.Applies(a) {
		return ""
	}
	var has []string
	for _, want := range strings.Split(c.Axes, " + ") {
		if is := sameAxis(want, a); is != want {
			has = append(has, is)
		}
	}
	return fmt.Sprintf("is for %s, and this service is %s", c.Axes, strings.Join(has, " and "))
}

// sameAxis is a's place on the axis that the place want is on.
func sameAxis(want string, a recipe.Axes) string {
	switch {
	case slices.Contains([]recipe.Balance{recipe.Singleton, recipe.Scalable, recipe.Global}, recipe.Balance(want)):
		return string(a.Balance)
	case slices.Contains([]recipe.Publish{recipe.Internal, recipe.Mesh, recipe.OneToOne, recipe.VirtualIP}, recipe.Publish(want)):
		return string(a.Publish)
	default:
		return string(a.Volume)
	}
}

// The places on the axes that claims apply to.
func published(a recipe.Axes) bool    { return a.Publish != recipe.Internal }
func internal(a recipe.Axes) bool     { return a.Publish == recipe.Internal }
func oneToOne(a recipe.Axes) bool     { return a.Publish == recipe.OneToOne }
func mesh(a recipe.Axes) bool         { return a.Publish == recipe.Mesh }
func meshScalable(a recipe.Axes) bool { return mesh(a) && a.Balance == recipe.Scalable }

// claims are those of DESIGN.md's table that this version can judge.
var claims = []Claim{
	{
		ID:        "mesh/every-host-answers",
		Text:      "each published port answers on every host, also where no task runs",
		Guide:     "公開軸 / メッシュルーティング",
		Axes:      "mesh",
		Applies:   mesh,
		Judgeable: published,
		judge: func(o *Observations, service string) probes.Judgement {
			return probes.EveryHostAnswers(o.published(service), o.Hosts, o.hostsWithTask(service))
		},
	},
	{
		ID:        "mesh/source-hidden",
		Text:      "the container sees the ingress address of the host that was asked, never the client's",
		Guide:     "公開軸 / メッシュルーティング",
		Axes:      "mesh",
		Applies:   mesh,
		Judgeable: published,
		judge: func(o *Observations, service string) probes.Judgement {
			return probes.SourceHidden(o.published(service), o.Ingress)
		},
	},
	{
		ID:        "mesh/balances",
		Text:      "over fresh connections every replica serves, within the expected spread",
		Guide:     "公開軸 / メッシュルーティング",
		Axes:      "mesh + scalable",
		Applies:   meshScalable,
		Judgeable: published,
		judge: func(o *Observations, service string) probes.Judgement {
			return probes.Balances(o.published(service), o.taskIDs(service))
		},
	},
	{
		ID:        "one-to-one/every-host-has-one",
		Text:      "one task runs on each host",
		Guide:     "負荷分散軸 / グローバル",
		Axes:      "one-to-one",
		Applies:   oneToOne,
		Judgeable: published,
		judge: func(o *Observations, service string) probes.Judgement {
			return probes.EveryHostHasOne(o.Hosts, o.tasks(service))
		},
	},
	{
		ID:        "one-to-one/source-kept",
		Text:      "the container sees the client's own address, over TCP and UDP",
		Guide:     "公開軸 / 一対一ルーティング",
		Axes:      "one-to-one",
		Applies:   oneToOne,
		Judgeable: published,
		judge: func(o *Observations, service string) probes.Judgement {
			return probes.SourceKept(o.published(service))
		},
	},
	{
		ID:        "one-to-one/local-task-answers",
		Text:      "what is sent to a host is served by the task on that host",
		Guide:     "公開軸 / 一対一ルーティング",
		Axes:      "one-to-one",
		Applies:   oneToOne,
		Judgeable: published,
		judge: func(o *Observations, service string) probes.Judgement {
			return probes.LocalTaskAnswers(o.published(service))
		},
	},
	{
		ID:        "internal/not-exposed",
		Text:      "no host answers on an internal service's ports",
		Guide:     "公開軸 / 内部サービス",
		Axes:      "internal",
		Applies:   internal,
		Judgeable: internal,
		judge: func(o *Observations, service string) probes.Judgement {
			return probes.NotExposed(o.hidden(service))
		},
	},
}
