"""Where agents connect: receive, verify, route, send. Decides nothing and writes nothing itself."""
