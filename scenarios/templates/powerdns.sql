-- The zone of the probes, as the role powerdns-init would make one. Answers come
-- from the database at each question; LUA records tell who asked and who answers.
INSERT INTO domains (name, type) SELECT '{{.Zone}}', 'NATIVE' FROM DUAL WHERE NOT EXISTS (SELECT 1 FROM domains WHERE name = '{{.Zone}}');
SET @id = (SELECT id FROM domains WHERE name = '{{.Zone}}');
DELETE FROM records WHERE domain_id = @id;
INSERT INTO records (domain_id, name, type, content, ttl) VALUES
 (@id, '{{.Zone}}', 'SOA', 'ns.{{.Zone}} hostmaster.{{.Zone}} 1 3600 600 86400 60', 60),
 (@id, '{{.Zone}}', 'NS', 'ns.{{.Zone}}', 60),
{{- range .Hosts}}
 (@id, 'ns.{{$.Zone}}', 'A', '{{.Addr}}', 60),
{{- end}}
 (@id, '{{.View}}', 'LUA', 'TXT ";{{range .Networks}}if netmask({ ''{{.}}'' }) then return ''{{.}}'' end {{end}}return ''nobody''"', 0),
 (@id, '*.{{.Whoami}}', 'LUA', 'TXT ";local e = function(n) return os.getenv(n) or '''' end; return { ''service='' .. e(''HIVEPROOF_SERVICE''), ''task='' .. e(''HIVEPROOF_TASK''), ''slot='' .. e(''HIVEPROOF_SLOT''), ''node='' .. e(''HIVEPROOF_NODE''), ''role=dns'', ''source='' .. who:toStringWithPort(), ''nonce='' .. qname:getRawLabels()[1] }"', 0);
