"""The lab: measurements that stand behind the docs. README.md lists each command; nothing here is in the wheel."""
