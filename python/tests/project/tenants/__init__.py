"""An engine as multi-tenant packages have it: a schema for each tenant, chosen by SET search_path."""
