package recipe_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hiveproof/hiveproof/scenarios/recipe"
)

// The guide's matrix of the section 負荷分散軸とボリューム軸のパターンの組み合わせの可否,
// for each way to write a volume. Which pattern a way makes may hang on the balance:
// a share of one task is that service's own.
func TestBalanceAndVolume(t *testing.T) {
	const (
		singleton = "mode: replicated\n    replicas: 1"
		scalable  = "mode: replicated\n    replicas: 2"
		global    = "mode: global"
	)
	balances := []struct {
		keys string
		want recipe.Balance
	}{{singleton, recipe.Singleton}, {scalable, recipe.Scalable}, {global, recipe.Global}}
	const yes, no = true, false
	type cell struct {
		volume  recipe.VolumePattern
		allowed bool
	}
	service, host, shared, none := recipe.ServiceVolume, recipe.HostVolume, recipe.SharedVolume, recipe.Stateless
	tests := []struct {
		name, volumes string
		want          [3]cell // singleton, scalable, global
	}{
		// ステートレス ○○○
		{"no volumes", "[]", [3]cell{{none, yes}, {none, yes}, {none, yes}}},
		{"tmpfs", "[{source: '', target: /t, type: tmpfs}]", [3]cell{{none, yes}, {none, yes}, {none, yes}}},
		// サービス固有 ○☓☓
		{"DRBD, xfs", "[{source: d, target: /d, type: volume, drbd: {fstype: xfs, size: 1G}}]", [3]cell{{service, yes}, {service, no}, {service, no}}},
		{"DRBD, ext4, no type", "[{source: d, target: /d, drbd: {fstype: ext4, size: 1G, diskless: [hive2]}}]", [3]cell{{service, yes}, {service, no}, {service, no}}},
		{"DRBD and tmpfs", "[{source: '', target: /t, type: tmpfs}, {source: d, target: /d, drbd: {fstype: xfs, size: 1G}}]", [3]cell{{service, yes}, {service, no}, {service, no}}},
		// サービス固有 ○ for a singleton, 共有 ○○ for the others
		{"NFS by driver options", "[{source: n, target: /n, type: volume, driver: local, driver_opts: {type: nfs, device: ':/n', o: addr=nfs}}]", [3]cell{{service, yes}, {shared, yes}, {shared, yes}}},
		{"NFS 4 by driver options", "[{source: n, target: /n, driver: local, driver_opts: {type: nfs4, device: ':/n', o: addr=nfs}}]", [3]cell{{service, yes}, {shared, yes}, {shared, yes}}},
		{"NFS share of the cloud", "[{source: n, target: /n, nfs: {}}]", [3]cell{{service, yes}, {shared, yes}, {shared, yes}}},
		{"NFS share of the cloud with a size", "[{source: n, target: /n, nfs: {size: 120G}}]", [3]cell{{service, yes}, {shared, yes}, {shared, yes}}},
		{"volume plugin", "[{source: p, target: /p, driver: rexray}]", [3]cell{{service, yes}, {shared, yes}, {shared, yes}}},
		// ホスト固有 ☓☓○
		{"bind", "[{source: /h, target: /h, type: bind}]", [3]cell{{host, no}, {host, no}, {host, yes}}},
		{"a path without type", "[{source: /h, target: /h}]", [3]cell{{host, no}, {host, no}, {host, yes}}},
		{"plain volume", "[{source: v, target: /v, type: volume}]", [3]cell{{host, no}, {host, no}, {host, yes}}},
		{"plain volume, no type", "[{source: v, target: /v, readonly: true}]", [3]cell{{host, no}, {host, no}, {host, yes}}},
	}
	for _, tt := range tests {
		for i, b := range balances {
			t.Run(fmt.Sprintf("%s, %s", tt.name, b.want), func(t *testing.T) {
				s := parse(t, head+"    "+b.keys+"\n    volumes: "+tt.volumes+"\n").Service("web")
				got := recipe.Classify(s, 3)
				if got.Balance != b.want || got.Volume != tt.want[i].volume {
					t.Errorf("%+v, want %s and %s", got, b.want, tt.want[i].volume)
				}
				if got.Balance.SupportsVolume(got.Volume) != tt.want[i].allowed || got.Supported() != tt.want[i].allowed {
					t.Errorf("%+v is supported: %v", got, got.Supported())
				}
			})
		}
	}
	// A share that is the singleton's own is never 共有, so that ☓ of the matrix has
	// no definition; the exception for one host turns ☓ into サービス固有 ○.
	if recipe.Singleton.SupportsVolume(recipe.SharedVolume) {
		t.Error("a shared volume of a singleton")
	}
	for _, volume := range []string{"{source: /h, target: /h, type: bind}", "{source: v, target: /v}"} {
		s := parse(t, head+"    volumes: ["+volume+"]\n").Service("web")
		if a := recipe.Classify(s, 1); a.Volume != recipe.ServiceVolume || !a.Supported() {
			t.Errorf("%s on one host: %+v", volume, a)
		}
	}
}

// Which ports may be chosen with which balance, by the sections of 公開軸.
func TestBalanceAndPublish(t *testing.T) {
	const ingress, host = "[{target_port: 80, published_port: 80}]", "[{target_port: 80, published_port: 80, mode: host}]"
	tests := []struct {
		keys, ports string
		want        recipe.Publish
		allowed     bool
	}{
		{"replicas: 1", "[]", recipe.Internal, true},
		{"replicas: 2", "[]", recipe.Internal, true},
		{"mode: global", "[]", recipe.Internal, true},
		{"replicas: 1", ingress, recipe.Mesh, true},
		{"replicas: 2", ingress, recipe.Mesh, true},
		{"mode: global", ingress, recipe.Mesh, false},
		{"mode: global", host, recipe.OneToOne, true},
		{"replicas: 1", host, recipe.VirtualIP, true},
		{"replicas: 2", host, recipe.VirtualIP, false},
	}
	for _, tt := range tests {
		a := recipe.Classify(parse(t, head+"    "+tt.keys+"\n    ports: "+tt.ports+"\n").Service("web"), 3)
		if a.Publish != tt.want || a.Balance.SupportsPublish(a.Publish) != tt.allowed || a.Supported() != tt.allowed {
			t.Errorf("%s with %s: %+v, supported %v", tt.keys, tt.ports, a, a.Supported())
		}
	}
	for _, b := range []recipe.Balance{recipe.Singleton, recipe.Scalable} {
		if b.SupportsPublish(recipe.OneToOne) {
			t.Errorf("one-to-one of %s", b)
		}
	}
}

func TestForStage(t *testing.T) {
	r := parse(t, strings.Replace(head, "services:", "available_on: [private, staging]\nservices:", 1)+`    ports: ["80"]
    volumes:
    - {source: a, target: /a, drbd: {fstype: xfs, size: 1G, available_on: [staging]}}
    - {source: b, target: /b, nfs: {available_on: [production]}}
    - {source: c, target: /c, nfs: {available_on: ["{{ stage }}"]}}
  live: {image: a, available_on: [production], ports: ["81"]}
  open: {image: a, available_on: ["{{ stage }}"], ports: ["82"]}
`)
	for stage, want := range map[string]string{
		"private":    "web 61001 host host service; open 61003",
		"staging":    "web 61001 service host service; open 61003",
		"production": "live 61002; open 61003",
	} {
		var got []string
		for _, s := range r.ForStage(stage).Services {
			text := fmt.Sprint(s.Name, " ", s.Ports[0].Published)
			for _, v := range s.Volumes {
				text += " " + string(recipe.Classify(&recipe.Service{Replicas: 1, Volumes: []*recipe.Volume{v}}, 3).Volume)
			}
			got = append(got, text)
		}
		if strings.Join(got, "; ") != want {
			t.Errorf("%s: %s, want %s", stage, strings.Join(got, "; "), want)
		}
	}
	if v := r.Service("web").Volumes; v[0].DRBD == nil || v[1].NFS == nil || len(recipe.Stages()) != 3 {
		t.Error("ForStage changed the recipe")
	}
}
