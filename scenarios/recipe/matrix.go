package recipe

// The guide's section 負荷分散軸とボリューム軸のパターンの組み合わせの可否.
var volumesOf = map[Balance]map[VolumePattern]bool{
	Singleton: {Stateless: true, ServiceVolume: true},
	Scalable:  {Stateless: true, SharedVolume: true},
	Global:    {Stateless: true, HostVolume: true, SharedVolume: true},
}

// Each pattern's own section of the guide's 公開軸 says for which it may be chosen.
var publishesOf = map[Balance]map[Publish]bool{
	Singleton: {Internal: true, Mesh: true, VirtualIP: true},
	Scalable:  {Internal: true, Mesh: true},
	Global:    {Internal: true, OneToOne: true},
}

// SupportsVolume reports whether the guide allows services of balance b volumes
// of pattern v (section 負荷分散軸とボリューム軸のパターンの組み合わせの可否). The
// exception for sites of one host is Classify's matter: it calls such a volume
// ServiceVolume.
func (b Balance) SupportsVolume(v VolumePattern) bool { return volumesOf[b][v] }

// SupportsPublish reports whether the guide allows services of balance b ports of
// pattern p (sections 内部サービス, メッシュルーティング, 一対一ルーティング and
// 仮想IP).
func (b Balance) SupportsPublish(p Publish) bool { return publishesOf[b][p] }

// Supported reports whether the guide allows the service's place on the axes.
func (a Axes) Supported() bool {
	return a.Balance.SupportsVolume(a.Volume) && a.Balance.SupportsPublish(a.Publish)
}
