package scenarios

import (
	"slices"
	"time"

	"github.com/hiveproof/hiveproof/probes"
	"github.com/hiveproof/hiveproof/scenarios/recipe"
)

// Claims returns every claim in the order of reports.
func Claims() []Claim { return slices.Clone(claims) }

func published(p Place) bool { return p.Publish != recipe.Internal }
func internal(p Place) bool  { return p.Publish == recipe.Internal }

const (
	guideMesh     = "公開軸 / メッシュルーティング"
	guideOneToOne = "公開軸 / 一対一ルーティング"
	guideInternal = "公開軸 / 内部サービス"
	guideScale    = "負荷分散軸 / スケーラブル"
	guideGlobal   = "負荷分散軸 / グローバル"
	guideConfig   = "構成ガイド / "
)

// maxOutage is what a client's outage may last at most. Swarm's own figures are
// known (FACTS: a dead leader's task is replaced after 42 to 58 s), and the mesh
// should forget a dead task long before that.
var maxOutage = Param{Name: "max_outage", Default: "60s", Text: "the longest outage of a client at a host that is to go on answering"}

// claims are those of DESIGN.md's table that this version can judge.
var claims = []Claim{
	{
		ID: "mesh/every-host-answers", Guide: guideMesh,
		Text: "each published port answers on every host, also where no task runs",
		when: []condition{isMesh}, judgeable: published, acts: []act{actAsk},
		judge: func(o *Observations, in Instance) probes.Judgement {
			return probes.EveryHostAnswers(o.published(in.Service), o.Hosts, o.hostsWithTask(in.Service))
		},
	},
	{
		ID: "mesh/source-hidden", Guide: guideMesh,
		Text: "the container sees the ingress address of the host that was asked, never the client's",
		when: []condition{isMesh}, judgeable: published, needs: []need{needsAgent}, acts: []act{actAsk},
		judge: func(o *Observations, in Instance) probes.Judgement {
			return probes.SourceHidden(o.published(in.Service), o.Ingress)
		},
	},
	{
		ID: "mesh/balances", Guide: guideMesh,
		Text: "over fresh connections every replica serves, within the expected spread",
		when: []condition{isMesh, isScalable}, judgeable: published, needs: []need{needsAgent}, acts: []act{actAsk},
		judge: func(o *Observations, in Instance) probes.Judgement {
			return probes.Balances(o.published(in.Service), o.taskIDs(in.Service))
		},
	},
	{
		ID: "mesh/no-views", Guide: guideConfig + "ステートレスメッシュルーティング",
		Text: "behind the mesh a server cannot answer by the client's address",
		when: []condition{isMesh, hasViews}, judgeable: func(p Place) bool { return p.Views }, needs: []need{needsNetworks}, acts: []act{actViews},
		judge: func(o *Observations, in Instance) probes.Judgement { return probes.ViewsSame(o.Views) },
	},
	{
		ID: "mesh/not-sticky", Guide: guideConfig + "ロードバランサ背後ステートレスメッシュルーティング",
		Text: "a session kept in one container's memory does not survive the mesh",
		when: []condition{isMesh, isScalable, isBehind, notSticky}, needs: []need{needsAgent}, acts: []act{actVisit},
		judge: func(o *Observations, in Instance) probes.Judgement {
			return probes.NotSticky(o.Visits, o.taskIDs(in.Service))
		},
	},
	{
		ID: "mesh/scales", Guide: guideScale,
		Text: "after changing replicas, the new task serves and a removed one gets nothing more",
		when: []condition{isMesh, isScalable}, needs: []need{needsAgent}, acts: []act{actScale},
		judge: func(o *Observations, in Instance) probes.Judgement {
			return probes.Scales(o.Services[in.Service].Scaling)
		},
	},
	{
		ID: "mesh/survives-task-loss", Guide: guideMesh, Params: []Param{maxOutage},
		Text: "when a container dies the service goes on answering; the outage each client saw is measured",
		when: []condition{isMesh, isScalable}, acts: []act{actTaskLoss},
		judge: func(o *Observations, in Instance) probes.Judgement { return survives(o, in, taskLosses) },
	},
	{
		ID: "mesh/survives-host-loss", Guide: guideMesh, Params: []Param{maxOutage},
		Text: "when a host dies the others go on answering; the outage each client saw is measured",
		when: []condition{isMesh, isScalable}, needs: []need{needsPower, needsManagers}, acts: []act{actHostLoss, actLeaderLoss},
		judge: func(o *Observations, in Instance) probes.Judgement { return survives(o, in, hostLosses) },
	},
	{
		ID: "one-to-one/every-host-has-one", Guide: guideGlobal,
		Text: "one task runs on each host",
		when: []condition{isOneToOne}, judgeable: published, acts: []act{actAsk},
		judge: func(o *Observations, in Instance) probes.Judgement {
			return probes.EveryHostHasOne(o.Hosts, o.tasks(in.Service))
		},
	},
	{
		ID: "one-to-one/source-kept", Guide: guideOneToOne,
		Text: "the container sees the client's own address, over TCP and UDP",
		when: []condition{isOneToOne}, judgeable: published, needs: []need{needsAgent}, acts: []act{actAsk},
		judge: func(o *Observations, in Instance) probes.Judgement {
			return probes.SourceKept(o.published(in.Service))
		},
	},
	{
		ID: "one-to-one/local-task-answers", Guide: guideOneToOne,
		Text: "what is sent to a host is served by the task on that host",
		when: []condition{isOneToOne}, judgeable: published, needs: []need{needsAgent}, acts: []act{actAsk},
		judge: func(o *Observations, in Instance) probes.Judgement {
			return probes.LocalTaskAnswers(o.published(in.Service))
		},
	},
	{
		ID: "one-to-one/views", Guide: guideConfig + "ステートレスグローバル",
		Text: "a server can answer by the client's address: clients in different networks get different answers",
		when: []condition{isOneToOne, hasViews}, judgeable: func(p Place) bool { return p.Views }, needs: []need{needsNetworks}, acts: []act{actViews},
		judge: func(o *Observations, in Instance) probes.Judgement { return probes.ViewsDiffer(o.Views) },
	},
	{
		ID: "one-to-one/fallback", Guide: guideConfig + "ステートレスメッシュルーティング",
		Text: "a client with several addresses is served when one host is lost",
		when: []condition{isOneToOne}, needs: []need{needsPower, needsHosts}, acts: []act{actFallback},
		judge: func(o *Observations, in Instance) probes.Judgement {
			return probes.FallsBack(o.Services[in.Service].Fallback)
		},
	},
	{
		ID: "lb/forwarded-for", Guide: guideConfig + "ロードバランサ背後ステートレスメッシュルーティング",
		Text: "the client is found in X-Forwarded-For behind the load balancer",
		when: []condition{isBehind}, needs: []need{needsAgent}, acts: []act{actVisit},
		judge: func(o *Observations, in Instance) probes.Judgement { return probes.ForwardedFor(o.Visits) },
	},
	{
		ID: "lb/source-is-lb", Guide: guideConfig + "ロードバランサ背後ステートレスメッシュルーティング",
		Text: "the address that the container sees is the load balancer's, or what the mesh makes of it",
		when: []condition{isBehind}, needs: []need{needsAgent}, acts: []act{actVisit},
		judge: func(o *Observations, in Instance) probes.Judgement {
			return probes.SourceIsLB(o.Visits, o.BalancerSources, o.GuideOnSources)
		},
	},
	{
		ID: "lb/sticky", Guide: guideConfig + "ロードバランサ背後スティッキーグローバル",
		Text: "one session, one container, over many requests and connections",
		when: []condition{isSticky}, needs: []need{needsAgent}, acts: []act{actVisit},
		judge: func(o *Observations, in Instance) probes.Judgement {
			return probes.Sticky(o.Visits, o.taskIDs(in.Service))
		},
	},
	{
		ID: "lb/sticky-any-door", Guide: guideConfig + "スティッキー対応内蔵ロードバランサ",
		Text: "the same session reaches the same container through each of the built-in balancers",
		when: []condition{isBuiltIn, isSticky}, needs: []need{needsAgent}, acts: []act{actVisit},
		judge: func(o *Observations, in Instance) probes.Judgement {
			return probes.StickyAnyDoor(o.Visits, o.Doors, o.taskIDs(in.Service))
		},
	},
	{
		ID: "lb/reload-in-place", Guide: guideConfig + "内蔵ロードバランサ",
		Text: "a changed configuration and certificate on the host volume is served without restarting the service",
		when: []condition{isBalancer}, needs: []need{needsAgent}, acts: []act{actReload},
		judge: func(o *Observations, in Instance) probes.Judgement { return probes.ReloadInPlace(o.Reload) },
	},
	{
		ID: "internal/not-exposed", Guide: guideInternal,
		Text: "no host answers on an internal service's ports",
		when: []condition{isInternal}, judgeable: internal, acts: []act{actAsk},
		judge: func(o *Observations, in Instance) probes.Judgement {
			return probes.NotExposed(o.hidden(in.Service))
		},
	},
	{
		ID: "internal/resolves-to-tasks", Guide: guideInternal,
		Text: "with dnsrr the service's name gives exactly the running tasks' addresses; with vip the virtual one, and the tasks' beside it",
		when: []condition{isInternal}, acts: []act{actNames},
		judge: func(o *Observations, in Instance) probes.Judgement {
			return probes.ResolvesToTasks(o.Services[in.Service].Resolution)
		},
	},
	{
		ID: "ports/internal-range", Guide: guideConfig + "スティッキー対応内蔵ロードバランサ",
		Text: "ports of 10000 and above are not reachable from outside where the site has a perimeter",
		when: []condition{isOneToOne, isHighPort}, needs: []need{needsPerimeter, needsOutside}, acts: []act{actAsk},
		judge: func(o *Observations, in Instance) probes.Judgement {
			return probes.InternalRange(o.internalRange(in.Service))
		},
	},
}

// duration is a parameter that is one; it was checked when the plan was made.
func (in Instance) duration(name string) time.Duration {
	d, _ := time.ParseDuration(in.Params[name])
	return d
}
