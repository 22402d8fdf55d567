-- Lets the reader role log in with the password of READER_PASSWORD, for Grafana: it may read the views and nothing else.
\getenv prefix PRM_PREFIX
\getenv password READER_PASSWORD
SELECT :'prefix' || '_reader' AS reader, CASE :'prefix' WHEN 'prm' THEN 'read' ELSE :'prefix' || '_read' END AS views \gset
ALTER ROLE :"reader" LOGIN PASSWORD :'password';
ALTER ROLE :"reader" SET search_path = :"views";
ALTER ROLE :"reader" SET default_transaction_read_only = on;
ALTER ROLE :"reader" SET statement_timeout = '30s';
